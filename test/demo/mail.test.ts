import { readdir, readFile, stat } from 'node:fs/promises'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import PostalMime, { type Email } from 'postal-mime'
import { SMTPServer } from 'smtp-server'
import { describe, expect, onTestFinished, test } from 'vitest'
import { until } from '../wait-until.ts'
import { type Demo, enrolled, startDemo } from './demo-process.ts'

interface Mails {
  env: Record<string, string>
  /** All mails so far, the oldest first. */
  read(demo: Demo): Promise<Email[]>
}

function outbox(env: { OUTBOX_DIR?: string } = {}): Mails {
  return {
    env,
    async read({ folder }) {
      const files = await filesIn(join(folder, env.OUTBOX_DIR ?? 'data/outbox'))
      return Promise.all(files.map(async (file) => PostalMime.parse(await readFile(file))))
    },
  }
}

/** The mails in a folder, the oldest first; none when it is not there. */
async function filesIn(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => [])
  return names
    .filter((name) => name.endsWith('.eml'))
    .sort()
    .map((name) => join(folder, name))
}

/** A real SMTP server on loopback that wants a name and a password. */
async function smtp(): Promise<Mails> {
  const mails: Email[] = []
  const server = new SMTPServer({
    allowInsecureAuth: true,
    disabledCommands: ['STARTTLS'],
    onAuth: ({ username, password }, _session, done) =>
      username === 'demo' && password === 'p@ss' ? done(null, { user: 'demo' }) : done(new Error('not you')),
    async onData(stream, _session, done) {
      mails.push(await PostalMime.parse(Buffer.concat(await stream.toArray())))
      done()
    },
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => new Promise<void>((resolve) => server.close(() => resolve())))
  const { port } = server.server.address() as AddressInfo
  return { env: { SMTP_URL: `smtp://demo:p%40ss@127.0.0.1:${port}` }, read: async () => mails }
}

describe.each([
  { way: 'a file in data/outbox', open: async () => outbox(), workers: 1 },
  {
    way: 'a file in OUTBOX_DIR, of one of two processes',
    open: async () => outbox({ OUTBOX_DIR: 'mails' }),
    workers: 2,
  },
  { way: 'SMTP_URL', open: smtp, workers: 1 },
  { way: 'SMTP_URL, from one of two processes', open: smtp, workers: 2 },
])('by $way', ({ open, workers }) => {
  test('a lost device is recovered with the link of a mail and the password', async () => {
    const mails = await open()
    const demo = await startDemo({ ...mails.env, WORKERS: String(workers) })
    onTestFinished(demo.remove)
    const user = await enrolled(demo, 'ann')
    const mailsOn = async (subject: string) =>
      (await mails.read(demo)).filter((mail) => mail.subject?.endsWith(subject))
    const post = (path: string, body: object) => demo.call('POST', path, { body, connection: 'close' })

    expect((await post('/api/totp/recovery/', { email: 'ANN@example.com' })).status).toBe(200)
    await until(async () => (await mailsOn('Turn off two-factor authentication')).length === 1)

    const [mail] = await mailsOn('Turn off two-factor authentication')
    expect(mail?.to?.map(({ address }) => address)).toEqual(['ann@example.com'])
    expect(mail?.from).toEqual({ name: 'totp-kit demo', address: 'no-reply@localhost' })
    const [url = ''] = /http:\S+/.exec(mail?.text ?? '') ?? []
    expect(url.startsWith(`${demo.url}/#`), url).toBe(true)
    expect(mail?.html).toContain(`href="${url.replaceAll('&', '&amp;')}"`)
    const said = new URLSearchParams(new URL(url).hash.slice(1))
    const link = { uid: said.get('uid'), token: said.get('token') }
    const wrong = await post('/api/totp/recovery_confirm/', { ...link, password: 'wrong horse' })
    expect(wrong.body.code).toBe('invalid_credentials')
    expect((await post('/api/totp/recovery_confirm/', { ...link, password: user.password })).status).toBe(204)
    const { body } = await post('/api/jwt/create/', { username: 'ann', password: user.password })
    expect(body.is_totp_enabled).toBe(false)

    await until(async () => (await mailsOn('Two-factor authentication is off')).length === 1)
    expect(await mailsOn('Two-factor authentication is on')).toHaveLength(1)
    expect(demo.printed()).toMatch(/ recovery\.requested userId=\S+ at=\d+\n/)
    expect(demo.printed()).toMatch(/ recovery\.refused userId=\S+ code=invalid_credentials at=\d+\n/)
    expect(demo.printed()).toMatch(/ recovery\.confirmed userId=\S+ at=\d+\n/)
    expect(demo.printed()).not.toContain(link.token)
    expect(demo.printed()).not.toContain('mail.failed')
  })
})

test('a mail in the outbox is for the eyes of its owner, and each is a file of its own', async () => {
  const demo = await startDemo({ OUTBOX_DIR: 'mails' })
  onTestFinished(demo.remove)
  await enrolled(demo, 'ann')
  await enrolled(demo, 'bob')

  await until(async () => (await filesIn(join(demo.folder, 'mails'))).length === 2)

  for (const file of await filesIn(join(demo.folder, 'mails'))) expect((await stat(file)).mode & 0o777).toBe(0o600)
})

test('a mail that is under way when the server is told to stop is still sent', async () => {
  const demo = await startDemo()
  onTestFinished(demo.remove)
  await enrolled(demo, 'ann')

  await demo.call('POST', '/api/totp/recovery/', { body: { email: 'ann@example.com' } })
  expect(await demo.stop()).toBe(0)

  const subjects = (await outbox().read(demo)).map(({ subject }) => subject)
  expect(subjects).toContain('totp-kit demo: Turn off two-factor authentication')
})

test('a mail server that greets and then says nothing holds up neither a request nor the end of the process', async () => {
  const sockets: Socket[] = []
  const silent = createServer((socket) => {
    sockets.push(socket)
    socket.on('error', () => undefined)
    socket.write('220 one moment\r\n')
  })
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy()
    silent.close()
  })
  const { port } = silent.address() as AddressInfo
  const demo = await startDemo({ SMTP_URL: `smtp://127.0.0.1:${port}` })
  onTestFinished(demo.remove)
  await enrolled(demo, 'ann')

  expect((await demo.call('POST', '/api/totp/recovery/', { body: { email: 'ann@example.com' } })).status).toBe(200)
  await until(async () => sockets.length === 2)
  const stopping = performance.now()
  expect(await demo.stop()).toBe(0)

  expect(performance.now() - stopping).toBeLessThan(7000)
  await until(async () =>
    demo.printed().includes('warning: shutdown took longer than five seconds; unfinished work was stopped'),
  )
})

test('the name of a device makes no line of its own in the log', async () => {
  const demo = await startDemo()
  onTestFinished(demo.remove)
  const user = await enrolled(demo, 'ann')
  const body = {
    totp_challenge_token: await user.challenge(),
    otp_code: user.nextCode(),
    trust_device: true,
    device_name: 'phone\r\n2027-01-01T00:00:00.000Z totp.disabled userId=1',
  }

  expect((await demo.call('POST', '/api/jwt/totp/verify/', { body })).status).toBe(200)

  expect(demo.printed()).toMatch(/ trusted_device\.kept .*name=phone 2027-01-01T00:00:00\.000Z totp\.disabled userId=1/)
  expect(demo.printed()).not.toMatch(/^2027-01-01/m)
})

test('an address belongs to one user, in whichever case it is written', async () => {
  const demo = await startDemo()
  onTestFinished(demo.remove)
  const register = (username: string, email: string) =>
    demo.call('POST', '/api/register', { body: { username, email, password: 'correct horse' } })

  expect((await register('ann', 'Ann@example.com')).status).toBe(201)

  expect((await register('eve', 'ann@EXAMPLE.com')).body.errors).toEqual({ email: ['This is already in use.'] })
  expect((await register('bob', 'bob@example.com')).status).toBe(201)
})
