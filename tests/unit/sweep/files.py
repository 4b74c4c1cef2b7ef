"""The recipe that the sweep files of these tests vary."""

RECIPE = """\
[model]
backbone = "test_resnet"

[data]
train = "train.csv"
val = "val.csv"

[train]
epochs = 3
"""
