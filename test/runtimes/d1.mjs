/**
 * The D1 store in workerd, the runtime of Cloudflare Workers: three Workers on one database. The promises of `TotpStore`,
 * races between requests, and a login over HTTP.
 */
import assert from 'node:assert/strict'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { Miniflare } from 'miniflare'
import { generateFernetKey } from '../../dist/index.js'
import { authenticatorFor, storeCases } from '../../dist/testing/index.js'
import { byStep, challengeOf, enroll, firstStep, wrong } from '../../dist/testing/store-fixtures.js'

/** What workerd takes, as `wrangler` makes it: one module. */
const { outputFiles } = await build({
  entryPoints: [fileURLToPath(new URL('worker.mjs', import.meta.url))],
  bundle: true,
  format: 'esm',
  target: 'es2022',
  external: ['node:*'],
  write: false,
})
const worker = {
  modules: [{ type: 'ESModule', path: 'worker.mjs', contents: outputFiles[0].text }],
  compatibilityDate: '2025-09-01',
  compatibilityFlags: ['nodejs_compat'],
  d1Databases: { DB: 'totp' },
  bindings: { TOTP_ENCRYPTION_KEY: generateFernetKey() },
}
const cloud = new Miniflare({ workers: ['first', 'second', 'third'].map((name) => ({ ...worker, name })) })
const workers = await Promise.all(['first', 'second', 'third'].map((name) => cloud.getWorker(name)))
/** Requests go to the Workers in turn. */
let sent = 0
const send = (path, init) => workers[sent++ % workers.length].fetch(`http://localhost${path}`, init)
const post = (path, body, headers = {}) =>
  send(path, {
    method: 'POST',
    body: JSON.stringify(body),
    headers: { 'content-type': 'application/json', ...headers },
  })
const call = async (operation, ...parameters) => (await post('/store', { operation, parameters })).json()
const many = (count, work) => Promise.all(Array.from({ length: count }, (_, n) => work(n)))
const tally = (answers) =>
  Object.fromEntries(Object.entries(Object.groupBy(answers, String)).map(([key, all]) => [key, all.length]))

/** The store as the Workers have it: each call is a request to the next one. */
const store = new Proxy(
  {},
  {
    get:
      (_, operation) =>
      (...parameters) =>
        call(operation, ...parameters),
  },
)

const tests = {
  async 'Workers that start at once on an empty database make the tables once'() {
    const login = () => post('/api/jwt/create/', { username: 'ada', password: 'correct horse' })
    assert.match(await (await login()).text(), /^the tables of totp-kit are missing: call store\.migrate\(\)/)

    await many(12, () => store.migrate())

    assert.equal((await login()).status, 200)
  },

  async 'of requests that race with one code exactly one is accepted'() {
    const user = await enroll(store, { userId: 'racer' })
    const answers = await many(30, () => store.settleAttempt(byStep(user, firstStep + 1)))
    assert.deepEqual(tally(answers.map(({ outcome }) => outcome)), { spent: 1, spent_before: 29 })
  },

  async 'of requests that race with one challenge exactly one is accepted, though each has a code of its own'() {
    const user = await enroll(store, { userId: 'challenged' })
    const token = challengeOf(user)
    const answers = await many(30, (n) => store.settleAttempt(byStep(user, firstStep + 1 + n, { token })))
    assert.equal(tally(answers.map(({ outcome }) => outcome)).spent, 1)
  },

  async 'of 60 guesses at once five are judged'() {
    await enroll(store, { userId: 'guessed' })
    const guess = wrong({ userId: 'guessed', generation: 1 })
    const answers = await many(60, () => store.settleAttempt(guess))
    assert.deepEqual(tally(answers.map(({ outcome }) => outcome)), { wrong: 5, delayed: 55 })
  },

  async 'a user enrolls, confirms, and logs in with a code, which works once'() {
    const member = async (reply) => ({ status: (await reply).status, ...(await (await reply).json()) })
    const login = () => member(post('/api/jwt/create/', { username: 'ada', password: 'correct horse' }))
    const authorization = `Bearer ${(await login()).access}`
    const setup = await member(post('/api/totp/create/', {}, { authorization }))
    const app = authenticatorFor(setup.uri)
    const now = Math.floor(Date.now() / 1000)
    const confirmed = await member(post('/api/totp/confirm/', { input_code: app.codeAt(now) }, { authorization }))
    assert.equal(confirmed.status, 200)

    const { totp_challenge_token } = await login()
    const answer = { totp_challenge_token, otp_code: app.codeAt(now + 30) }
    const answers = await many(20, () => post('/api/jwt/totp/verify/', answer))

    assert.equal(tally(answers.map(({ status }) => status))[200], 1)
    const { access } = await answers.find(({ status }) => status === 200).json()
    const status = await member(send('/api/totp/status/', { headers: { authorization: `Bearer ${access}` } }))
    assert.equal(status.is_totp_enabled, true)
  },
}

let failures = 0
const check = async (name, run) => {
  try {
    await run()
  } catch (error) {
    failures++
    console.error(`workerd, D1: ${name}\n`, error)
  }
}
for (const [name, run] of Object.entries(tests)) await check(name, run)
const cases = [...storeCases.entries()]
/** Several at once: each waits for the database most of the time, and has tables of its own. */
const takeCases = async () => {
  for (let next = cases.shift(); next !== undefined; next = cases.shift()) {
    const [index, { name }] = next
    await check(name, async () => assert.equal(await (await send(`/case/${index}`)).json(), null))
  }
}
await many(9, takeCases)
await cloud.dispose()
const run = Object.keys(tests).length + storeCases.length
console.log(`workerd, D1: ${run - failures} passed, ${failures} failed`)
process.exitCode = failures === 0 ? 0 : 1
