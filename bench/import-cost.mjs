/** What the first import of a package costs over a bare process, in turn. Prints JSON. */
import { spawnSync } from 'node:child_process'
import { pathToFileURL } from 'node:url'
import { progress } from './measure.mjs'

const isShort = process.argv.includes('--short')
const ROUNDS = isShort ? 7 : 25
const urlOf = (path) => String(new URL(path, import.meta.url))
const doors = {
  'bare node': null,
  'totp-kit': urlOf('../dist/index.js'),
  'totp-kit/node': urlOf('../dist/adapters/node.js'),
  'totp-kit/jwt': urlOf('../dist/jwt/index.js'),
  'totp-kit/store/sqlite': urlOf('../dist/store/sqlite.js'),
  otplib: 'otplib',
  otpauth: 'otpauth',
  'better-auth + twoFactor': ['better-auth', 'better-auth/plugins/two-factor'],
}
const times = Object.fromEntries(Object.keys(doors).map((name) => [name, []]))
progress('import cost')
for (let round = -1; round < ROUNDS; round++) {
  for (const [name, door] of Object.entries(doors)) {
    const milliseconds = start([door].flat().filter(Boolean))
    if (round >= 0) times[name].push(milliseconds)
  }
}
process.stdout.write(JSON.stringify(times))

/** @returns ms from the start to the end of a process that imports `doors` */
function start(doors) {
  const script = doors.map((door) => `import ${JSON.stringify(door)};`).join('')
  const begin = performance.now()
  const { status, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    cwd: new URL('.', pathToFileURL(import.meta.filename ?? process.argv[1])),
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(stderr)
  return performance.now() - begin
}
