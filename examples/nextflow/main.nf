include { FASTISM_RUN   } from './modules/local/fastism/run/main'
include { FASTISM_MERGE } from './modules/local/fastism/merge/main'

workflow {
    bed    = file(params.bed, checkIfExists: true)
    model  = tuple([id: 'model'], file(params.model, checkIfExists: true))
    fasta  = tuple([id: 'fasta'], file(params.fasta, checkIfExists: true))
    shards = channel.of(0..<params.shards).map { i -> tuple([id: bed.baseName], bed, i, params.shards) }

    FASTISM_RUN(shards, model, fasta)
    FASTISM_MERGE(FASTISM_RUN.out.ism.groupTuple(size: params.shards))
}
