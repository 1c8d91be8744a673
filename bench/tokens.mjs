/**
 * Access tokens by themselves: sign and verify with HS256, sixteen at once, beside `jose` and `fast-jwt`. Each checks
 * signature, `typ`, issuer, expiry and that the claims are there. Prints a table. In the root of the repository:
 * `npm run build && npm ci --prefix bench && node bench/tokens.mjs`
 */
import { createSecretKey, randomBytes, randomUUID } from 'node:crypto'
import { createSigner, createVerifier } from 'fast-jwt'
import { jwtVerify, SignJWT } from 'jose'
import { keySigner, readClaims, writeClaims } from './internals.mjs'
import { inBatches, median, ratioOf, ratioText, short } from './measure.mjs'

const ROUNDS = 25
const TOKENS = 1600
const AT_ONCE = 16
const ISSUER = 'Example'

const bytes = randomBytes(32)
const key = createSecretKey(bytes)
const now = Math.floor(Date.now() / 1000)
const claims = () =>
  writeClaims(
    {
      userId: 'user-1',
      tokenId: randomUUID(),
      familyId: 'a-family',
      amr: ['pwd', 'otp', 'mfa'],
      authTime: now,
      issuedAt: now,
      generation: 1,
    },
    { kind: 'access', issuer: ISSUER, seconds: 3600 },
  )

const own = keySigner([key])
const required = ['sub', 'jti', 'exp', 'sid']
const joseChecks = { algorithms: ['HS256'], typ: 'at+jwt', issuer: ISSUER, requiredClaims: required }
const fastSign = createSigner({ key: bytes, algorithm: 'HS256', header: { typ: 'at+jwt' } })
const fastVerify = createVerifier({
  key: bytes,
  algorithms: ['HS256'],
  checkTyp: 'at+jwt',
  allowedIss: ISSUER,
  requiredClaims: required,
})

const contenders = {
  'totp-kit': {
    sign: (claims) => own.sign(claims),
    verify: (token) => readClaims(own.verify('access', token), { kind: 'access', issuer: ISSUER, now }).userId,
  },
  jose: {
    sign: (claims) => new SignJWT(claims).setProtectedHeader({ alg: 'HS256', typ: 'at+jwt' }).sign(key),
    verify: async (token) => (await jwtVerify(token, key, joseChecks)).payload.sub,
  },
  'fast-jwt': { sign: (claims) => fastSign(claims), verify: (token) => fastVerify(token).sub },
}

const names = Object.keys(contenders)
const empty = () => Object.fromEntries(names.map((name) => [name, { wall: [], cpu: [] }]))
const times = { sign: empty(), verify: empty() }
for (let round = -2; round < ROUNDS; round++) {
  for (const name of names) {
    const { sign, verify } = contenders[name]
    const made = Array.from({ length: TOKENS }, claims)
    const tokens = await measured(made, sign, round, times.sign[name])
    const users = await measured(tokens, verify, round, times.verify[name])
    if (users.some((user) => user !== 'user-1')) throw new Error(`${name} verified something else`)
  }
}

console.log(`Node ${process.versions.node}, ${AT_ONCE} at once, ${ROUNDS} rounds of ${TOKENS}; microseconds a token\n`)
console.log('| work   | with     | CPU  | elapsed | CPU, times totp-kit |')
console.log('| ------ | -------- | ---- | ------- | ------------------- |')
for (const work of ['sign', 'verify']) {
  for (const name of names) {
    const { wall, cpu } = times[work][name]
    const ratio = ratioText(ratioOf(cpu, times[work]['totp-kit'].cpu))
    const cells = [work.padEnd(6), name.padEnd(8), short(median(cpu)).padEnd(4), short(median(wall)).padEnd(7)]
    cells.push(ratio.padEnd(19))
    console.log(`| ${cells.join(' | ')} |`)
  }
}

/** Negative rounds warm up. */
async function measured(items, work, round, { wall, cpu }) {
  const used = process.cpuUsage()
  const begin = performance.now()
  const results = await inBatches(items, AT_ONCE, work)
  const elapsed = performance.now() - begin
  const { user, system } = process.cpuUsage(used)
  if (round >= 0) {
    wall.push((elapsed * 1000) / items.length)
    cpu.push((user + system) / items.length)
  }
  return results
}
