"""What is read: alphabet, FASTA, BED, VCF, and where a region lies on the genome."""
