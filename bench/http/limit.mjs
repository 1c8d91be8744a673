/**
 * The limit: what any implementation of these rules has to do for a request, and nothing else. A bare `node:http` handler
 * that sends the statements of totp-kit, which it records at its start (`recording.mjs`), the same calls of `qr`, and the
 * same Fernet, HMAC and HS256 work over `node:crypto`, for the one case that everything is right. No routing table, no schemas,
 * no rate of calls, no events, no wording of errors, no time-out for the database, one key instead of a ring.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createSecretKey,
  hkdfSync,
  randomBytes,
  timingSafeEqual,
} from 'node:crypto'
import { createServer } from 'node:http'
import encodeQR from 'qr'
import { decodeBase32 } from '../internals.mjs'
import { GUARDED } from './prepare.mjs'
import { openRecorded, operationOf } from './recording.mjs'
import { config, serve } from './server-process.mjs'
import { handlersOf, moverOf, openTotp } from './totp-kit.mjs'

const recorded = await openRecorded(config.database.kind, config.database.url)
const { totp, tokens, clock, prepare } = await openTotp(config, recorded.connection)
const DAY = 86_400

// Keys of tokens name the issuer, which `totp-kit.mjs` calls Bench.
const root = Buffer.from(config.encryptionKey, 'base64url')
const derived = (purpose) => Buffer.from(hkdfSync('sha256', root, '', `totp-kit/${purpose}`, 32))
const fernetKey = (bytes) => ({
  signing: createSecretKey(bytes.subarray(0, 16)),
  encryption: createSecretKey(bytes.subarray(16)),
})
const keys = {
  stored: fernetKey(root),
  challenge: fernetKey(derived('challenge/Bench')),
  backupCode: createSecretKey(derived('mac/backup-code')),
  jwt: createSecretKey(derived('mac/jwt/Bench')),
}

const jwtHeaders = {
  access: Buffer.from('{"alg":"HS256","typ":"at+jwt"}').toString('base64url'),
  refresh: Buffer.from('{"alg":"HS256","typ":"rt+jwt"}').toString('base64url'),
}

const routes = {
  'POST /api/jwt/totp/verify/': verify,
  'POST /api/totp/create/': create,
  'GET /api/totp/status/': status,
  [`GET ${GUARDED}`]: guarded,
}

const operations = {}
for (const work of ['login', 'backup', 'create', 'status', 'guarded']) operations[work] = await recordTwice(work)

await serve({
  handlers: { node: handle },
  async prepare(work, count) {
    return { requests: await prepare(work, count), at: clock.now() }
  },
  moveClock: moverOf(clock),
})

/** What totp-kit's own handler sends for two requests, and what the limit knows of each. */
async function recordTwice(work) {
  const { node } = handlersOf(totp, tokens)
  const recordings = []
  for (let n = 0; n < 2; n++) {
    clock.advance(30)
    const request = (await prepare(work, n + 1))[n]
    let answer
    const groups = await recorded.record(async () => {
      answer = await answerOf(node, request)
    })
    recordings.push({ groups, known: knownOf(request, answer, groups) })
  }
  return operationOf(recordings)
}

async function answerOf(node, { method, path, headers, body }) {
  const server = createServer(node)
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${server.address().port}${path}`
  const response = await fetch(url, { method, headers, body: method === 'GET' ? undefined : body })
  if (!response.ok) throw new Error(`${path} could not be recorded: ${response.status} ${await response.text()}`)
  const answer = await response.json()
  server.closeAllConnections()
  server.close()
  return answer
}

/** The values that the handlers below give to the statements, by name. */
function knownOf({ headers, body }, answer, groups) {
  const now = clock.now()
  if (headers.authorization) {
    const { userId, sessionId } = callerOf(headers.authorization, now)
    return { userId, now, sessionDigest: sessionDigestOf(sessionId), sealedSecret: null, expiresAt: now + 900 }
  }
  const { totp_challenge_token, backup_code } = JSON.parse(body)
  const { userId, ...challenge } = openChallenge(totp_challenge_token, now)
  const { sid: familyId, jti: refreshId } = JSON.parse(Buffer.from(answer.refresh.split('.')[1], 'base64url'))
  const family = { familyId, refreshId, familyExpiresAt: now + DAY }
  const more =
    backup_code === undefined
      ? { authenticatorId: groups[0].statements[0].result.rows[0].id, step: Math.floor(now / 30) }
      : { digests: digestsOf(userId, backup_code) }
  return { userId, now, ...challenge, ...family, ...more }
}

function handle(request, response) {
  const chunks = []
  request.on('data', (chunk) => chunks.push(chunk))
  request.on('end', async () => {
    try {
      const body = chunks.length > 0 ? JSON.parse(Buffer.concat(chunks)) : null
      const [code, answer] = await routes[`${request.method} ${request.url}`](body, request.headers)
      const text = JSON.stringify(answer)
      response.writeHead(code, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) })
      response.end(text)
    } catch (error) {
      response.writeHead(500)
      response.end(String(error))
    }
  })
}

function openChallenge(token, now) {
  const [tokenId, userId, generation, more] = JSON.parse(openFernet(keys.challenge, token, now, 3600))
  return { tokenId, userId, generation, expiresAt: now + 3600, amr: more.split(' ').slice(2) }
}

function digestsOf(userId, code) {
  const message = JSON.stringify([userId, code.replaceAll('-', '')])
  return JSON.stringify([createHmac('sha256', keys.backupCode).update(message).digest('base64url')])
}

async function verify({ totp_challenge_token, otp_code, backup_code }) {
  const now = clock.now()
  const { amr, ...challenge } = openChallenge(totp_challenge_token, now)
  const { userId, generation } = challenge
  const isTotp = otp_code !== undefined
  const { groups, withIds } = operations[isTotp ? 'login' : 'backup']
  const values = withIds({ ...challenge, now, familyId: newId(), refreshId: newId(), familyExpiresAt: now + DAY })
  const [{ rows }] = await recorded.replay(groups[0], values)
  if (isTotp) {
    const [{ id, sealed_secret }] = rows
    const [, owner, secret] = JSON.parse(openFernet(keys.stored, sealed_secret))
    if (owner !== userId) throw new Error('another user')
    values.authenticatorId = id
    values.step = matchStep(createSecretKey(decodeBase32(secret)), otp_code, Math.floor(now / 30))
  } else {
    values.digests = digestsOf(userId, backup_code)
  }
  for (const group of groups.slice(1)) await recorded.replay(group, values)
  const { familyId, refreshId } = values
  const claims = {
    userId,
    familyId,
    generation,
    amr: [...amr, ...(isTotp ? ['otp', 'mfa'] : ['mfa'])],
    now,
    seconds: DAY,
  }
  return [
    200,
    {
      access: sign('access', { ...claims, tokenId: newId() }),
      refresh: sign('refresh', { ...claims, tokenId: refreshId }),
    },
  ]
}

async function create(_body, { authorization }) {
  const now = clock.now()
  const { userId, generation, sessionId } = callerOf(authorization, now)
  const secret = encodeBase32(randomBytes(20))
  const name = encodeURIComponent(`${userId}@example.com`)
  const uri = `otpauth://totp/Bench:${name}?secret=${secret}&issuer=Bench`
  const svg = pictureOf(encodeQR(uri, 'raw', { ecc: 'medium', border: 4 }))
  const sealedSecret = sealFernet(keys.stored, JSON.stringify(['totp-secret', userId, secret]), now)
  const { groups, withIds } = operations.create
  const sessionDigest = sessionDigestOf(sessionId)
  const values = withIds({ userId, generation, sessionDigest, now, sealedSecret, expiresAt: now + 900 })
  for (const group of groups) await recorded.replay(group, values)
  return [201, { svg, uri, secret }]
}

async function status(_body, { authorization }) {
  const now = clock.now()
  const { userId } = callerOf(authorization, now)
  const { groups, withIds } = operations.status
  const values = withIds({ userId, now })
  const rowsOf = {}
  for (const group of groups) {
    const results = await recorded.replay(group, values)
    for (const [n, { key }] of group.statements.entries()) rowsOf[key] = results[n].rows
  }
  const { getWholeUser, getLive, countBackupCodes, listDevices, getFailures } = rowsOf
  const iso = (at) => (at === null ? null : `${new Date(Number(at) * 1000).toISOString().slice(0, 19)}Z`)
  const [user] = getWholeUser
  const blockedUntil = Number(getFailures[0]?.blocked_until ?? 0)
  return [
    200,
    {
      is_totp_enabled: user.confirmed_at !== null,
      confirmed_at: iso(user.confirmed_at),
      backup_codes_remaining: Number(countBackupCodes[0].remaining),
      authenticators: getLive.map((row) => ({
        id: row.id,
        name: row.name,
        created_at: iso(row.created_at),
        last_used_at: iso(row.last_used_at),
      })),
      trusted_devices: listDevices.length,
      locked_until: blockedUntil > now ? iso(blockedUntil) : null,
    },
  ]
}

async function guarded(_body, { authorization }) {
  const now = clock.now()
  const { userId } = callerOf(authorization, now)
  const { groups, withIds } = operations.guarded
  for (const group of groups) await recorded.replay(group, withIds({ userId, now }))
  return [200, {}]
}

function callerOf(authorization, now) {
  const [header, payload, mac] = authorization.slice('Bearer '.length).split('.')
  const right = timingSafeEqual(hs256(`${header}.${payload}`), Buffer.from(mac, 'base64url'))
  const { sub, sid, gen, exp } = JSON.parse(Buffer.from(payload, 'base64url'))
  if (header !== jwtHeaders.access || !right || exp <= now) throw new Error('not an access token')
  return { userId: sub, sessionId: sid, generation: gen }
}

function sign(kind, { userId, familyId, tokenId, generation, amr, now, seconds }) {
  const issued = { gen: generation, acr: 'aal2', iss: 'Bench', sub: userId, jti: tokenId, iat: now, exp: now + seconds }
  const claims = { token_type: kind, sid: familyId, amr, auth_time: now, ...issued }
  const signed = `${jwtHeaders[kind]}.${Buffer.from(JSON.stringify(claims)).toString('base64url')}`
  return `${signed}.${hs256(signed).toString('base64url')}`
}

function hs256(signed) {
  return createHmac('sha256', keys.jwt).update(signed).digest()
}

function newId() {
  return randomBytes(16).toString('base64url')
}

function sessionDigestOf(sessionId) {
  return createHash('sha256').update(`session ${sessionId}`).digest('base64url')
}

function sealFernet({ signing, encryption }, plaintext, at) {
  const head = Buffer.alloc(25)
  head[0] = 0x80
  head.writeUInt32BE(at, 5)
  const iv = randomBytes(16)
  head.set(iv, 9)
  const cipher = createCipheriv('aes-128-cbc', encryption, iv)
  const signed = Buffer.concat([head, cipher.update(plaintext, 'utf8'), cipher.final()])
  const token = Buffer.concat([signed, createHmac('sha256', signing).update(signed).digest()]).toString('base64url')
  return token.padEnd(Math.ceil(token.length / 4) * 4, '=')
}

function openFernet({ signing, encryption }, token, now, ttlSeconds) {
  const bytes = Buffer.from(token, 'base64url')
  const signed = bytes.subarray(0, -32)
  const mac = createHmac('sha256', signing).update(signed).digest()
  if (!timingSafeEqual(mac, bytes.subarray(-32))) throw new Error('not ours')
  if (ttlSeconds !== undefined && bytes.readUInt32BE(5) + ttlSeconds < now) throw new Error('too old')
  const decipher = createDecipheriv('aes-128-cbc', encryption, bytes.subarray(9, 25))
  return decipher.update(signed.subarray(25), undefined, 'utf8') + decipher.final('utf8')
}

function matchStep(secret, code, now) {
  const given = Buffer.from(code, 'latin1')
  const counter = Buffer.alloc(8)
  let matched = null
  for (let step = now - 1; step <= now + 1; step++) {
    counter.writeUInt32BE(step, 4)
    const mac = createHmac('sha1', secret).update(counter).digest()
    const binary = mac.readUInt32BE(mac[19] & 15) & 0x7fff_ffff
    const expected = Buffer.from(String(binary % 1_000_000).padStart(6, '0'), 'latin1')
    if (timingSafeEqual(expected, given)) matched = step
  }
  if (matched === null) throw new Error('wrong code')
  return matched
}

function encodeBase32(bytes) {
  let text = ''
  let bits = 0
  let buffer = 0
  for (const byte of bytes) {
    buffer = ((buffer << 8) | byte) & 0xfff
    bits += 8
    for (; bits >= 5; bits -= 5) text += 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'[(buffer >> (bits - 5)) & 31]
  }
  return text
}

function pictureOf(modules) {
  const size = modules.length
  let path = ''
  for (let y = 0; y < size; y++) {
    const row = modules[y]
    for (let x = 0; x < size; x++) {
      if (!row[x]) continue
      const first = x
      while (row[x]) x++
      path += `M${first} ${y}.5h${x - first}`
    }
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${size} ${size}"><path fill="#fff" d="M0 0h${size}v${size}H0z"/><path stroke="#000" d="${path}"/></svg>`
}
