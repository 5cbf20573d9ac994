process FASTISM_MERGE {
    tag "${meta.id}"
    label 'process_single'

    conda "${moduleDir}/environment.yml"

    input:
    tuple val(meta), path(shards)

    output:
    tuple val(meta), path("*.ism.h5"), emit: ism
    tuple val("${task.process}"), val('fastism'), eval("fastism --version | sed 's/.*version //'"), emit: versions_fastism, topic: versions

    when:
    task.ext.when == null || task.ext.when

    script:
    def args   = task.ext.args ?: ''
    def prefix = task.ext.prefix ?: "${meta.id}.merged"
    """
    fastism merge ${shards} --output ${prefix}.ism.h5 ${args}
    """

    stub:
    def prefix = task.ext.prefix ?: "${meta.id}.merged"
    """
    touch ${prefix}.ism.h5
    """
}
