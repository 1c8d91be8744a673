import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { rooms } from './rooms.mjs'

/** Runs Stryker for the rooms that are named on the command line, or for all: `npm run test:mutation -- otp crypto`. */
const chosen = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(rooms)
const root = fileURLToPath(new URL('../..', import.meta.url))
const stryker = fileURLToPath(new URL('node_modules/@stryker-mutator/core/bin/stryker.js', import.meta.url))

let failed = 0
for (const room of chosen) {
  console.log(`\n=== ${room} ===`)
  const options = { cwd: root, stdio: 'inherit', env: { ...process.env, ROOM: room } }
  const { status } = spawnSync(process.execPath, [stryker, 'run', 'test/mutation/stryker.config.mjs'], options)
  if (status !== 0) failed++
}
process.exitCode = failed === 0 ? 0 : 1
