"""First-party plugins. They import only `server.hooks` and `server.protocol`."""
