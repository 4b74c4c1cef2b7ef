"""The part of a recipe for a few steps on a small CSV data set that several tests share."""

DATA_AND_OPTIMIZER = """
[data]
train = "{set}/val.csv"
val = "{set}/val.csv"
root = "{set}"
workers = 0
index_cache = ""
[preprocessing]
short_side_px = 32
crop_px = 32
[optimizer]
name = "adamw"
lr = 0.01
[schedule]
name = "constant"
"""
