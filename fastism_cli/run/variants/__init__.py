"""fastism variants: score the variants of a VCF."""
