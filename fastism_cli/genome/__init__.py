"""What is read: alphabet, FASTA, BED, GTF, VCF, and where a region lies on the genome."""
