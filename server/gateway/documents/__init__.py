"""What the interface says of itself: OpenAPI, AsyncAPI and the page made from both. Imported when first asked for."""
