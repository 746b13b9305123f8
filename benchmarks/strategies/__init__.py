"""What each strategy of caching costs and gives, measured on the prices of the shop, on a real PostgreSQL."""
