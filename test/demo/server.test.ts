import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generateFernetKey } from 'totp-kit'
import { expect, onTestFinished, test } from 'vitest'
import { postgresPool, services } from '../services.ts'
import { databaseDump, enrolled, spawnDemo, startDemo } from './demo-process.ts'

async function exitOf(env: Record<string, string>): Promise<{ code: number | null; printed: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'totp-kit-demo-'))
  onTestFinished(() => rm(folder, { recursive: true }))
  const child = spawnDemo(env, folder)
  let printed = ''
  child.stdout?.on('data', (chunk: Buffer) => {
    printed += chunk.toString()
  })
  child.stderr?.on('data', (chunk: Buffer) => {
    printed += chunk.toString()
  })
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
  return { code, printed }
}

test.each([
  ['PORT', { PORT: 'http' }],
  ['TOTP_ENCRYPTION_KEY', { TOTP_ENCRYPTION_KEY: 'secret' }],
  ['rateLimit', { TOTP_THROTTLE_RATE: '10 per minute' }],
  ['TOTP_MAX_BACKUP_CODES', { TOTP_MAX_BACKUP_CODES: '0' }],
  ['TOTP_TOKEN_MAX_AGE', { TOTP_TOKEN_MAX_AGE: '-1' }],
  ['DATABASE_URL', { DATABASE_URL: 'oracle://secret' }],
  ['SMTP_URL', { SMTP_URL: 'mail.example:25' }],
  ['SMTP_URL', { SMTP_URL: 'smtp://demo:secret@[mail' }],
  ['SMTP_URL', { SMTP_URL: 'smtp://demo:secret@mail.example:99999' }],
  ['TOTP_MAX_AUTHENTICATORS', { TOTP_MAX_AUTHENTICATORS: '6' }],
  ['TOTP_ENFORCE', { TOTP_ENFORCE: 'maybe' }],
  ['TOTP_RECOVERY_DELAY', { TOTP_RECOVERY_DELAY: '1h' }],
  ['TOTP_RECOVERY_DELAY', { TOTP_RECOVERY_DELAY: '604801' }],
  ['TOTP_BACKUP_CODE_STORAGE', { TOTP_BACKUP_CODE_STORAGE: 'plain' }],
  ['TOTP_TRUSTED_DEVICE_DAYS', { TOTP_TRUSTED_DEVICE_DAYS: '91' }],
  ['HOST', { HOST: '' }],
  ['REDIS_URL', { REDIS_URL: 'redis://:secret@%zz' }],
  ['REDIS_URL', { REDIS_URL: 'redis://:secret@127.0.0.1:1' }],
  ['OUTBOX_DIR', { OUTBOX_DIR: '/etc/passwd/mails' }],
  ['issuer', { TOTP_ISSUER: 'Acme: the shop', DATABASE_URL: 'sqlite:demo.sqlite3', WORKERS: '3' }],
  ['issuer', { TOTP_ISSUER: 'Acme: the shop' }],
])(
  'a wrong %s stops the start with one clear line that does not repeat the value, and exit code 1',
  async (name, env) => {
    const { code, printed } = await exitOf({ PORT: '0', DATABASE_URL: 'sqlite::memory:', ...(env as object) })

    expect(code).toBe(1)
    expect(
      printed
        .trim()
        .split('\n')
        .filter((line) => !line.includes('using the key kept in')),
    ).toHaveLength(1)
    expect(printed).toContain(name)
    expect(printed).not.toContain('secret')
  },
)

test('the README has a row for each setting that the demo reads, and no other', async () => {
  const [settings, readme] = await Promise.all(
    ['../../demo/settings.ts', '../../README.md'].map((path) => readFile(new URL(path, import.meta.url), 'utf8')),
  )
  const read = new Set([...(settings ?? '').matchAll(/env\.([A-Z_]+)/g)].map(([, name]) => name))
  const [section = ''] = (readme ?? '').split('\n## The demo server\n')[1]?.split('\n## ') ?? []
  const documented = [...section.matchAll(/^\| `([A-Z_]+)`/gm)].map(([, name]) => name)

  expect(documented.toSorted()).toEqual([...read].toSorted())
})

test('a wrong key stops the start, not the first log-in', async () => {
  const demo = await startDemo()
  await demo.stop()

  const { code, printed } = await exitOf({
    PORT: '0',
    DATABASE_URL: `sqlite:${demo.databasePath}`,
    TOTP_ENCRYPTION_KEY: 'cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=',
  })

  expect(code).toBe(1)
  expect(printed).toContain('encryptionKey does not match this store')
  await demo.remove()
})

test('a port that is taken stops the start with one clear line', async () => {
  const demo = await startDemo()

  const { code, printed } = await exitOf({ PORT: new URL(demo.url).port, DATABASE_URL: 'sqlite::memory:' })

  expect(code).toBe(1)
  expect(printed.match(/EADDRINUSE/g)).toHaveLength(1)
  await demo.remove()
})

test('SIGTERM stops it cleanly, and what it had written is there after a restart', async () => {
  const demo = await startDemo()
  const user = await enrolled(demo, 'ann')

  expect(await demo.stop()).toBe(0)

  const again = await startDemo({ DATABASE_URL: `sqlite:${demo.databasePath}` })
  const answer = await again.call('GET', '/api/me', { bearer: user.access })
  expect(answer.body).toMatchObject({ username: 'ann', is_totp_enabled: true, amr: ['pwd'] })
  await again.remove()
  await demo.remove()
})

test('SIGTERM in the middle of a request: it is answered, and the connection is not waited for after it', async () => {
  const demo = await startDemo()
  onTestFinished(demo.remove)
  const { hostname, port } = new URL(demo.url)
  const socket = connect(Number(port), hostname)
  const body = JSON.stringify({ username: 'nobody', password: 'whatever' })
  const head = `POST /api/jwt/create/ HTTP/1.1\r\nhost: demo\r\ncontent-type: application/json\r\n`
  const answered = new Promise<string>((resolve) => socket.once('data', (chunk) => resolve(chunk.toString())))
  socket.write(`${head}content-length: ${body.length}\r\n\r\n${body.slice(0, 5)}`)
  await new Promise((resolve) => setTimeout(resolve, 100))

  const stopped = demo.stop()
  await new Promise((resolve) => setTimeout(resolve, 100))
  socket.write(body.slice(5))

  expect(await answered).toMatch(/^HTTP\/1\.1 401 /)
  expect(await stopped).toBe(0)
  expect(demo.printed()).not.toContain('not everything was done')
})

test.skipIf(!services.postgres)(
  'with key and database server given, it needs no folder that it may write to',
  async () => {
    const { url, drop } = await postgresPool(1)
    onTestFinished(drop)

    const demo = await startDemo({ DATABASE_URL: url, TOTP_ENCRYPTION_KEY: generateFernetKey() })
    onTestFinished(demo.remove)

    expect(await readdir(demo.folder)).toEqual([])
  },
)

test('the throttle of the demo reads its rate from TOTP_THROTTLE_RATE', async () => {
  const demo = await startDemo({ TOTP_THROTTLE_RATE: '3/minute' })
  const body = { username: 'nobody', password: 'whatever' }

  const answers = []
  for (let i = 0; i < 4; i++) answers.push(await demo.call('POST', '/api/jwt/create/', { body }))

  expect(answers.map(({ status }) => status)).toEqual([401, 401, 401, 429])
  expect(Number(answers[3]?.headers.get('retry-after'))).toBeGreaterThan(0)
  await demo.remove()
})

test('registrations are counted by address, malformed ones too', async () => {
  const demo = await startDemo({ TOTP_THROTTLE_RATE: '10/minute' })
  const answers = []
  for (let n = 0; n < 11; n++) {
    const body = n % 2 ? [] : { username: `user ${n}`, email: `${n}@example.com`, password: 'correct horse' }
    answers.push(await demo.call('POST', '/api/register', { body }))
  }

  expect(answers.map(({ status }) => status)).toEqual([201, 400, 201, 400, 201, 400, 201, 400, 201, 400, 429])
  expect(answers[10]?.body.code).toBe('throttled')
  expect(Number(answers[10]?.headers.get('retry-after'))).toBeGreaterThan(0)
  await demo.remove()
})

test('registrations at once do not make a log-in wait for all of them', async () => {
  const demo = await startDemo()
  const account = (username: string) => ({ username, email: `${username}@example.com`, password: 'correct horse' })
  await demo.call('POST', '/api/register', { body: account('ann') })
  let registered = 0
  const registrations = Array.from({ length: 60 }, async (_, n) => {
    const { status } = await demo.call('POST', '/api/register', { body: account(`user-${n}`) })
    registered++
    return status
  })

  const login = await demo.call('POST', '/api/jwt/create/', { body: account('ann') })

  expect(login.status).toBe(200)
  expect(registered).toBeLessThan(30)
  expect(await Promise.all(registrations)).toEqual(Array(60).fill(201))
  await demo.remove()
})

test('the demo answers its own routes in the words of the wire', async () => {
  const demo = await startDemo()
  const body = { username: 'ann', email: 'ann@example.com', password: 'correct horse' }

  const registered = await demo.call('POST', '/api/register', { body })
  expect([registered.status, registered.headers.get('cache-control')]).toEqual([201, 'no-store'])
  const taken = await demo.call('POST', '/api/register', { body })
  expect(taken.body).toMatchObject({ code: 'validation_failed', errors: { username: ['This is already in use.'] } })
  const wrong = await demo.call('POST', '/api/register', { body: { username: 1, email: 'a:b@c', password: 'short' } })
  expect(Object.keys(wrong.body.errors)).toEqual(['username', 'email', 'password'])
  expect((await demo.call('POST', '/api/register', { body: [] })).body.code).toBe('malformed_json')
  expect((await demo.call('GET', '/api/me')).body.code).toBe('unauthenticated')
  expect((await demo.call('GET', '/api/vault')).body.code).toBe('unauthenticated')
  expect((await demo.call('GET', '/api/nothing')).body.code).toBe('not_found')
  expect((await demo.call('GET', '/healthz')).status).toBe(200)
  await demo.remove()
})

test('neither the database file nor the log of a whole journey holds a secret, a code or a token in clear', async () => {
  const demo = await startDemo()
  const { call } = demo
  const user = await enrolled(demo, 'leak')
  const seen = new Set<string>([user.password, user.secret, user.confirmingCode, ...user.backupCodes])
  const keep = (...values: unknown[]) => {
    for (const value of values) seen.add(String(value))
  }
  keep(user.access, user.refresh)
  const challenge = await user.challenge()
  const wrong = await call('POST', '/api/jwt/totp/verify/', {
    body: { totp_challenge_token: challenge, otp_code: '918273' },
  })
  expect(wrong.body.code).toBe('invalid_code')
  const code = user.nextCode()
  const login = await call('POST', '/api/jwt/totp/verify/', {
    body: { totp_challenge_token: challenge, otp_code: code },
  })
  const bearer = login.body.access
  keep(challenge, '918273', code, bearer, login.body.refresh)
  const backup = await user.challenge()
  const [backup_code] = user.backupCodes
  const second = await call('POST', '/api/jwt/totp/verify/', { body: { totp_challenge_token: backup, backup_code } })
  keep(backup, second.body.access, second.body.refresh)
  const viewed = await call('GET', '/api/totp/backup_codes/', { bearer })
  expect(viewed.status).toBe(200)
  const vault = await call('GET', '/api/vault', { bearer })
  expect(vault.status).toBe(200)
  const rotated = await call('POST', '/api/totp/rotate_backup_codes/', { bearer })
  keep(...rotated.body.backup_codes)
  const anew = await call('POST', '/api/totp/create/', { bearer })
  keep(anew.body.secret)
  const refreshed = await call('POST', '/api/jwt/refresh/', { body: { refresh: login.body.refresh } })
  keep(refreshed.body.access, refreshed.body.refresh)
  const verified = await call('POST', '/api/totp/verify/', {
    bearer,
    body: { backup_code: rotated.body.backup_codes[0] },
  })
  expect(verified.status).toBe(200)
  const off = await call('POST', '/api/totp/disable/', { bearer })
  expect(off.status).toBe(204)

  const dump = await databaseDump(demo)
  const printed = demo.printed()
  expect(dump).toContain('leak@example.com')
  expect(printed).toContain('totp.verified')
  for (const value of seen) {
    for (const spelling of spellingsOf(value)) {
      expect(holds(dump, spelling), `the database holds ${spelling}`).toBe(false)
      expect(holds(printed, spelling), `the log holds ${spelling}`).toBe(false)
    }
  }
  await demo.remove()
})

/** A code of six digits stands by itself; the same digits within a time are none. */
function holds(text: string, spelling: string): boolean {
  return /^\d{6}$/.test(spelling) ? new RegExp(`(?<!\\d)${spelling}(?!\\d)`).test(text) : text.includes(spelling)
}

/** As it is, without hyphens, and in the other encodings in which it could stand in a file. */
function spellingsOf(value: string): string[] {
  const bare = value.replaceAll('-', '')
  const bytes = Buffer.from(value)
  return [value, bare, bare.toLowerCase(), bytes.toString('base64').replace(/=+$/, ''), bytes.toString('hex')]
}
