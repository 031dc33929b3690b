"""The camera page of a phone: serving it with its bundles over HTTPS, as a phone gives its camera only to that."""
