/** Builds the page into dist/, for a server whose policy allows no inline script, no inline style and no data: script. */

import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

const server = 'http://127.0.0.1:8000'; // where `make run` listens; `npm run dev` hands API and socket on to it
const proxied = { target: server, changeOrigin: true, headers: { origin: server } };

export default defineConfig({
  plugins: [svelte({ configFile: false })],
  build: {
    target: 'es2023',
    assetsInlineLimit: 0, // an inlined font or image would be a data: address that the policy refuses
    modulePreload: { polyfill: false }, // it is an inline script
  },
  server: { proxy: { '/api': proxied, '/ws': { ...proxied, ws: true } } },
  test: { include: ['tests/**/*.test.ts'], restoreMocks: true },
});
