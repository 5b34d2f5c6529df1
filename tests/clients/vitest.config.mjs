import { cloudflareTest } from "@cloudflare/vitest-pool-workers";
import { defineConfig } from "vitest/config";

const remoteProxyConnectionString = new URL(process.env.AI_BINDING_URL);

export default defineConfig({
  // What Vite prepares goes to a folder of its own, so that runs beside each other do not meet.
  cacheDir: process.env.VITE_CACHE_DIR,
  plugins: [
    cloudflareTest({
      main: "./worker.mjs",
      remoteBindings: false,
      miniflare: { compatibilityDate: "2025-01-01", ai: { binding: "AI", remoteProxyConnectionString } },
    }),
  ],
  test: { include: ["binding.test.mjs"], reporters: ["default"] },
});
