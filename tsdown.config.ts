import { defineConfig } from 'tsdown'

export default defineConfig([
  {
    name: 'totp-kit',
    unbundle: true,
    entry: [
      'src/index.ts',
      'src/store/memory.ts',
      'src/store/{sqlite,libsql,d1,postgres,mysql}.ts',
      'src/redis/index.ts',
      'src/cli/index.ts',
      'src/{http,jwt,recovery,mail}/index.ts',
      'src/adapters/{express,node,fetch}.ts',
      'src/testing/index.ts',
    ],
    platform: 'node',
    target: 'node20.19',
    sourcemap: true,
    dts: { sourcemap: true },
    fixedExtension: false,
    logLevel: 'warn',
  },
  {
    name: 'demo server',
    entry: ['demo/server.ts'],
    // The package as its users have it: from dist/, through its own doors.
    deps: { neverBundle: [/^totp-kit/] },
    clean: ['dist-demo/server.js', 'dist-demo/server.js.map'],
    outDir: 'dist-demo',
    platform: 'node',
    target: 'node20.19',
    sourcemap: true,
    dts: false,
    fixedExtension: false,
    logLevel: 'warn',
  },
  {
    name: 'demo page',
    entry: ['demo/page/page.ts'],
    outDir: 'dist-demo/page',
    platform: 'browser',
    target: 'es2022',
    dts: false,
    sourcemap: true,
    copy: ['demo/page/index.html', 'demo/page/page.css'],
    logLevel: 'warn',
  },
])
