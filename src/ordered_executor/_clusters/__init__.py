"""The backends of clusters: the parts that Dask and Ray share.  It knows neither of them."""
