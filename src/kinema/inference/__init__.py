"""Networks in the form that runs, and predictions from them."""
