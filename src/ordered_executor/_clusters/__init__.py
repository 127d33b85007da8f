"""The backends of clusters: what Dask and Ray share.  Knows neither of them."""
