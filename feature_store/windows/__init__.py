"""Windows: what events come to over a time, at any instant. Pure arithmetic on columns; knows neither store."""
