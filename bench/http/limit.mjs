/**
 * The limit: what any implementation of these rules has to do for a request, and nothing else. A bare `node:http` handler
 * that runs the statements of totp-kit in their order, the same calls of `qr`, and the same Fernet and HMAC work,
 * for the one case that everything is right. No routing table, no schemas, no rate of calls, no events, no wording
 * of errors, no time-out for the database, one key instead of a ring.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createSecretKey,
  hkdfSync,
  randomBytes,
  timingSafeEqual,
} from 'node:crypto'
import encodeQR from 'qr'
import { decodeBase32 } from '../internals.mjs'
import { openLimitSql } from './limit-sql.mjs'
import { config, serve } from './server-process.mjs'
import { moverOf, openTotp } from './totp-kit.mjs'

const { clock, prepare } = await openTotp(config)
const sql = await openLimitSql(config.database)

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
}

await serve({
  handlers: { node: handle },
  async prepare(work, count) {
    return { requests: await prepare(work, count), at: clock.now() }
  },
  moveClock: moverOf(clock),
})

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

async function verify({ totp_challenge_token, otp_code, backup_code }) {
  const now = clock.now()
  const [tokenId, userId, generation, amr] = JSON.parse(openFernet(keys.challenge, totp_challenge_token, now, 3600))
  const challenge = { tokenId, generation, expiresAt: now + 3600 }
  const method = otp_code === undefined ? 'backup_code' : 'totp'
  const reserved = await sql.reserve({ userId, method, now, ...challenge })
  const spending = { userId, method, now, ...challenge }
  if (otp_code === undefined) {
    const code = backup_code.replaceAll('-', '')
    const digest = createHmac('sha256', keys.backupCode)
      .update(JSON.stringify([userId, code]))
      .digest('base64url')
    await sql.spend({ ...spending, digest })
  } else {
    const [, owner, secret] = JSON.parse(openFernet(keys.stored, reserved.sealed_secret))
    if (owner !== userId) throw new Error('another user')
    const step = matchStep(createSecretKey(decodeBase32(secret)), otp_code, Math.floor(now / 30))
    await sql.spend({ ...spending, authenticatorId: reserved.id, step })
  }
  const familyId = newId()
  const refreshId = newId()
  await sql.openFamily({ id: familyId, userId, tokenId: refreshId, expiresAt: now + 86_400, generation, now })
  const known = [...(amr ?? 'pwd').split(' '), ...(otp_code === undefined ? ['mfa'] : ['otp', 'mfa'])]
  const access = sign('access', {
    userId,
    familyId,
    tokenId: newId(),
    amr: known,
    now,
    seconds: 86_400,
  })
  const refresh = sign('refresh', {
    userId,
    familyId,
    tokenId: refreshId,
    amr: known,
    now,
    seconds: 86_400,
  })
  return [200, { access, refresh }]
}

async function create(_body, { authorization }) {
  const now = clock.now()
  const userId = await callerOf(authorization, now)
  const secret = encodeBase32(randomBytes(20))
  const name = encodeURIComponent(`${userId}@example.com`)
  const uri = `otpauth://totp/Bench:${name}?secret=${secret}&issuer=Bench`
  const svg = pictureOf(encodeQR(uri, 'raw', { ecc: 'medium', border: 4 }))
  const sealedSecret = sealFernet(keys.stored, JSON.stringify(['totp-secret', userId, secret]), now)
  await sql.putPending({
    userId,
    id: newId(),
    name: null,
    sealedSecret,
    algorithm: 'SHA1',
    digits: 6,
    periodSeconds: 30,
    createdAt: now,
    expiresAt: now + 900,
  })
  return [201, { svg, uri, secret }]
}

async function status(_body, { authorization }) {
  const now = clock.now()
  const userId = await callerOf(authorization, now)
  const { user, authenticators, remaining, devices, failures } = await sql.status({ userId, now })
  const iso = (at) => (at === null ? null : `${new Date(Number(at) * 1000).toISOString().slice(0, 19)}Z`)
  return [
    200,
    {
      is_totp_enabled: user.confirmed_at !== null,
      confirmed_at: iso(user.confirmed_at),
      backup_codes_remaining: remaining,
      authenticators: authenticators.map((row) => ({
        id: row.id,
        name: row.name,
        created_at: iso(row.created_at),
        last_used_at: iso(row.last_used_at),
      })),
      trusted_devices: devices.length,
      locked_until: failures && Number(failures.blocked_until) > now ? iso(failures.blocked_until) : null,
    },
  ]
}

async function callerOf(authorization, now) {
  const [header, payload, mac] = authorization.slice('Bearer '.length).split('.')
  const right = timingSafeEqual(hs256(`${header}.${payload}`), Buffer.from(mac, 'base64url'))
  const { sub, exp } = JSON.parse(Buffer.from(payload, 'base64url'))
  if (header !== jwtHeaders.access || !right || exp <= now) throw new Error('not an access token')
  return sub
}

function sign(kind, { userId, familyId, tokenId, amr, now, seconds }) {
  const times = { auth_time: now, iat: now, exp: now + seconds }
  const claims = { token_type: kind, sid: familyId, amr, acr: 'aal2', sub: userId, jti: tokenId, ...times }
  const signed = `${jwtHeaders[kind]}.${Buffer.from(JSON.stringify(claims)).toString('base64url')}`
  return `${signed}.${hs256(signed).toString('base64url')}`
}

function hs256(signed) {
  return createHmac('sha256', keys.jwt).update(signed).digest()
}

function newId() {
  return randomBytes(16).toString('base64url')
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
