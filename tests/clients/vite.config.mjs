// Copied into a project; the environment of wrangler's configuration is that of CLOUDFLARE_ENV.
import { cloudflare } from "@cloudflare/vite-plugin";
import { defineConfig } from "vite";

export default defineConfig({
  cacheDir: ".vite",
  plugins: [cloudflare({ inspectorPort: false, persistState: false })],
});
