import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

// Two pages, one bundle of shared code. The server answers `/` with index.html, `/client` with
// client.html and `/assets/...` with files whose names hold their hash.
export default defineConfig({
  plugins: [svelte()],
  build: {
    target: "es2022",
    modulePreload: { polyfill: false },
    rolldownOptions: { input: { monitor: "index.html", client: "client.html" } },
  },
  server: {
    // `npm run mock` or a real server answers the API while developing.
    proxy: { "/api": process.env["POINTSMAN_URL"] ?? "http://127.0.0.1:7781" },
    fs: { allow: [".", "../examples"] },
  },
});
