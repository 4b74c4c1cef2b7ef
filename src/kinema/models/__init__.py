"""Networks: backbones, sites, temporal modules, weights, named networks, saved folders."""
