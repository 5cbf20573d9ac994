process FASTISM_RUN {
    tag "${meta.id} ${shard}/${shards}"
    label 'process_medium'
    label 'process_gpu'

    conda "${moduleDir}/environment.yml"

    input:
    tuple val(meta), path(bed), val(shard), val(shards)
    tuple val(meta2), path(model)
    tuple val(meta3), path(fasta)

    output:
    tuple val(meta), path("*.ism.h5")  , emit: ism
    tuple val(meta), path("*.json")    , emit: summary
    tuple val("${task.process}"), val('fastism'), eval("fastism --version | sed 's/.*version //'"), emit: versions_fastism, topic: versions

    when:
    task.ext.when == null || task.ext.when

    script:
    def args   = task.ext.args ?: ''
    def prefix = task.ext.prefix ?: "${meta.id}.shard-${shard}-of-${shards}"
    """
    fastism run \\
        --model ${model} \\
        --bed ${bed} \\
        --fasta ${fasta} \\
        --shard ${shard}/${shards} \\
        --output ${prefix}.ism.h5 \\
        --summary ${prefix}.json \\
        ${args}
    """

    stub:
    def prefix = task.ext.prefix ?: "${meta.id}.shard-${shard}-of-${shards}"
    """
    touch ${prefix}.ism.h5 ${prefix}.json
    """
}
