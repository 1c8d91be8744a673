/**
 * The arithmetic by itself, beside the packages that do the same, each used as its README says. Contender after contender
 * in each round. Prints JSON; run by run.mjs in a process of its own.
 */
import { createSecretKey, randomBytes } from 'node:crypto'
import { createTOTPKeyURI, verifyTOTPWithGracePeriod } from '@oslojs/otp'
import fernet from 'fernet'
import { jwtVerify, SignJWT } from 'jose'
import { TOTP } from 'otpauth'
import { generateURI, verify as verifyOtplib } from 'otplib'
import encodeQR from 'qr'
import qrcode from 'qrcode'
import speakeasy from 'speakeasy'
import { generateFernetKey, generateTotpSecret } from '../dist/index.js'
import { authenticatorFor } from '../dist/testing/index.js'
import { backupCodeDigests, createKeyring, decodeBase32, keyUri, matchStep, qrSvg, tokenSealer } from './internals.mjs'
import { progress } from './measure.mjs'

const isShort = process.argv.includes('--short')
const ROUNDS = isShort ? 5 : 15
/** Each contender runs for about this long in a round. */
const ROUND_MS = isShort ? 20 : 60

const secret = generateTotpSecret()
const bytes = decodeBase32(secret)
const now = () => Math.floor(Date.now() / 1000)
const uri = keyUri({
  issuer: 'Example',
  accountName: 'alice@example.com',
  secret,
  algorithm: 'SHA1',
  digits: 6,
  periodSeconds: 30,
})
const phone = authenticatorFor(uri)
const parameters = { algorithm: 'SHA1', digits: 6, periodSeconds: 30, window: 1 }

/** A six-digit code that is not good now, nor soon. */
function wrongCode() {
  const near = Array.from({ length: 9 }, (_, step) => phone.codeAt(now() + (step - 4) * 30))
  for (let code = 123_456; ; code++) if (!near.includes(String(code))) return String(code)
}

function totpCheck(code, good) {
  const expect = (result) => {
    if (result !== good) throw new Error('a check gave the wrong answer')
  }
  return {
    'totp-kit': () => expect(matchStep(createSecretKey(decodeBase32(secret)), code(), now(), parameters) !== null),
    otpauth: () => expect(new TOTP({ secret }).validate({ token: code(), window: 1 }) !== null),
    otplib: async () => expect((await verifyOtplib({ secret, token: code(), epochTolerance: 30 })).valid),
    '@oslojs/otp': () => expect(verifyTOTPWithGracePeriod(bytes, 30, 6, code(), 30)),
    speakeasy: () => expect(speakeasy.totp.verify({ secret, encoding: 'base32', token: code(), window: 1 })),
  }
}

const key = generateFernetKey()
const keyring = createKeyring([key])
const npmSecret = new fernet.Secret(key)
const sealed = keyring.seal(secret, now())
const sealer = tokenSealer(keyring, { kind: 'challenge', issuer: 'Acme' }, 300)
const jwtKey = createSecretKey(randomBytes(32))
const id = randomBytes(16).toString('base64url')
const macKeys = keyring.deriveMacKeys('backup-code')
const backupCode = '7K3M9QXR0VJDF2TA'
const sealedCodes = Array.from({ length: 10 }, () => keyring.seal(backupCode, now()))

const rightCode = () => phone.codeAt(now())
const right = rightCode()
const wrong = wrongCode()
const since = now()
/** One code for some seconds: making it is not what is measured. */
const lately = () => (now() - since < 25 ? right : rightCode())

const tasks = [
  { name: 'TOTP check, right code', contenders: totpCheck(lately, true) },
  {
    name: 'TOTP check, wrong code',
    contenders: {
      ...totpCheck(() => wrong, false),
      'totp-kit, right code': totpCheck(lately, true)['totp-kit'],
    },
  },
  {
    name: 'Fernet seal',
    contenders: {
      'totp-kit': () => keyring.seal(secret, now()),
      'fernet (npm)': () => new fernet.Token({ secret: npmSecret }).encode(secret),
    },
  },
  {
    name: 'Fernet open',
    contenders: {
      'totp-kit': () => keyring.open(sealed).plaintext,
      'fernet (npm)': () => new fernet.Token({ secret: npmSecret, token: sealed, ttl: 0 }).decode(),
    },
  },
  {
    name: 'key URI',
    contenders: {
      'totp-kit': () => keyUri({ issuer: 'Example', accountName: 'alice@example.com', secret, ...parameters }),
      otpauth: () => new TOTP({ issuer: 'Example', label: 'alice@example.com', secret }).toString(),
      otplib: () => generateURI({ issuer: 'Example', label: 'alice@example.com', secret }),
      '@oslojs/otp': () => createTOTPKeyURI('Example', 'alice@example.com', bytes, 30, 6),
      speakeasy: () => speakeasy.otpauthURL({ secret, label: 'alice', issuer: 'Example', encoding: 'base32' }),
    },
  },
  {
    name: 'QR code as SVG',
    contenders: {
      'totp-kit': () => qrSvg(uri),
      'qr (npm)': () => encodeQR(uri, 'svg', { ecc: 'medium' }),
      'qrcode (npm)': () => qrcode.toString(uri, { type: 'svg', errorCorrectionLevel: 'M' }),
    },
    bytes: true,
  },
  {
    name: 'challenge token: seal and open',
    contenders: {
      'totp-kit': () => sealer.open(sealer.seal({ id, userId: 'user-1', generation: 3 }, now()), now()).id,
      'jose (HS256 JWT)': async () => {
        const token = await new SignJWT({ gen: 3 })
          .setProtectedHeader({ alg: 'HS256' })
          .setJti(id)
          .setSubject('user-1')
          .setExpirationTime('5m')
          .sign(jwtKey)
        return (await jwtVerify(token, jwtKey)).payload.jti
      },
    },
  },
  {
    name: 'backup code: find among 10',
    contenders: {
      'totp-kit': () => backupCodeDigests(macKeys, 'user-1', backupCode)[0],
      'opening all 10 (Fernet)': () =>
        sealedCodes.filter((token) => keyring.open(token).plaintext === backupCode).length,
    },
  },
]

const results = []
for (const { name, contenders, bytes: asBytes } of tasks) {
  progress(`in process: ${name}`)
  const times = Object.fromEntries(Object.keys(contenders).map((contender) => [contender, []]))
  const counts = {}
  for (const [contender, work] of Object.entries(contenders)) counts[contender] = await countFor(work)
  for (let round = 0; round < ROUNDS; round++) {
    for (const [contender, work] of Object.entries(contenders)) {
      times[contender].push(await perCall(work, counts[contender]))
    }
  }
  const sizes = {}
  if (asBytes) {
    for (const [contender, work] of Object.entries(contenders)) sizes[contender] = Buffer.byteLength(await work())
  }
  results.push({ name, times, sizes })
}
process.stdout.write(JSON.stringify(results))

/** How many calls take about one round, once the engine has compiled them. */
async function countFor(work) {
  let calls = 50
  for (;;) {
    const microseconds = await perCall(work, calls)
    if (microseconds * calls > (ROUND_MS * 1000) / 2) return Math.max(1, Math.round((ROUND_MS * 1000) / microseconds))
    calls *= 2
  }
}

/** @returns µs a call, of CPU */
async function perCall(work, calls) {
  const before = process.cpuUsage()
  for (let call = 0; call < calls; call++) {
    const result = work()
    if (result instanceof Promise) await result
  }
  const { user, system } = process.cpuUsage(before)
  return (user + system) / calls
}
