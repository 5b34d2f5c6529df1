"""What Cloudflare's own tools expect of a project and of an API."""
