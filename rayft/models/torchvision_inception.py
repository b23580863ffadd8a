"""The chains of torchvision's Inception v3 and GoogLeNet, and what of them is not there.

**Auxiliary heads.** Both networks were trained with classifiers half-way up (Szegedy et al. 2014,
https://arxiv.org/abs/1409.4842, section 5). They are not built here: their job was to bring a
gradient into the lower half of a network that starts random, their weights in the official files
are for the original classes (GoogLeNet's were never trained at all), and the loss is that of the
heads of the spec. Their entries in an official file are left out, and the run says so.

**Normalisation.** torchvision normalises with ImageNet's mean and deviation and then, where the
weights are pretrained, undoes it inside the network (`transform_input`): x * std / 0.5 +
(mean - 0.5) / 0.5 is (pixel - 0.5) / 0.5. Here the network takes its input as it is, and a mean
and a deviation of 0.5 (see `rayft.models.inputs`) give the same numbers but for rounding.
"""

from torch import nn

from rayft.models.layout import Stage
from rayft.models.stages import chain_stage, flatten, submodules


def googlenet_stages(net: nn.Module) -> tuple[Stage, ...]:
    """Return the chain of `GoogLeNet`; a pooling belongs to the block before it."""
    pooled = {"inception3b": "maxpool3", "inception4e": "maxpool4"}
    blocks = [f"inception{i}" for i in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a")]
    last, pool, *end = submodules(net, "inception5b", "avgpool", "dropout", "fc")
    stem = submodules(net, "conv1", "maxpool1", "conv2", "conv3", "maxpool2")
    return (
        chain_stage("stem", *stem),
        *(
            chain_stage(name, *submodules(net, *filter(None, (name, pooled.get(name)))))
            for name in blocks
        ),
        chain_stage("inception5b", last, pool, flatten, *end),
    )


def inception_stages(net: nn.Module) -> tuple[Stage, ...]:
    """Return the chain of `Inception3`."""
    stem = [f"Conv2d_{part}" for part in ("1a_3x3", "2a_3x3", "2b_3x3")]
    stem += ["maxpool1", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2"]
    blocks = [f"Mixed_{i}" for i in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b")]
    last, pool, dropout, classifier = submodules(net, "Mixed_7c", "avgpool", "dropout", "fc")
    return (
        chain_stage("stem", *submodules(net, *stem)),
        *(chain_stage(name, *submodules(net, name)) for name in blocks),
        chain_stage("Mixed_7c", last, pool, dropout, flatten, classifier),
    )
