"""Networks: backbones, their sites, insertion, classifier, weights, named networks."""
