import assert from 'node:assert/strict'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { inspect } from 'node:util'
import { createTransport } from 'nodemailer'
import PostalMime, { type Email } from 'postal-mime'
import { SMTPServer } from 'smtp-server'
import { createTotp, generateFernetKey, type Totp, type TotpEvent } from 'totp-kit'
import { jwtTokens } from 'totp-kit/jwt'
import {
  type MailTransport,
  type Notification,
  nodemailerSender,
  notifyByMail,
  type SendNotification,
} from 'totp-kit/mail'
import { accountRecovery, type Recovery } from 'totp-kit/recovery'
import { memoryStore } from 'totp-kit/store/memory'
import { authenticatorFor, fakeClock } from 'totp-kit/testing'
import { expect, onTestFinished, test, vi } from 'vitest'

const FROM = '"Acme, Inc." <security@acme.example>'
const NOON = 1_800_000_000

interface Received {
  recipients: string[]
  mail: Email
}

/** A real SMTP server on loopback. */
async function smtpServer({ refuses, quotes = false }: { refuses?: string; quotes?: boolean } = {}) {
  const received: Received[] = []
  const server = new SMTPServer({
    authOptional: true,
    disabledCommands: ['STARTTLS', 'AUTH'],
    onRcptTo: ({ address }, _session, done) => done(address === refuses ? new Error('no such mailbox') : null),
    async onData(stream, { envelope }, done) {
      const chunks: Buffer[] = []
      for await (const chunk of stream) chunks.push(chunk as Buffer)
      const mail = await PostalMime.parse(Buffer.concat(chunks))
      if (quotes) return done(new Error(`5.7.1 blocked: ${/https?:\S+/.exec(mail.text ?? '')}`))
      received.push({ recipients: envelope.rcptTo.map(({ address }) => address), mail })
      done()
    },
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => new Promise<void>((resolve) => server.close(() => resolve())))
  return { received, port: (server.server.address() as AddressInfo).port }
}

function senderTo(port: number, templates = {}): SendNotification {
  const timeouts = { connectionTimeout: 500, greetingTimeout: 500, socketTimeout: 500 }
  return nodemailerSender(createTransport({ host: '127.0.0.1', port, ...timeouts }), { from: FROM, templates })
}

interface Host {
  totp: Totp
  recovery: Recovery
  phone: ReturnType<typeof authenticatorFor>
  clock: ReturnType<typeof fakeClock>
  events: TotpEvent[]
  errors: unknown[]
}

/** Ann, with two addresses and a second factor, in a service that mails through `send`. */
async function serviceThatMails(
  send: SendNotification,
  addressesOf = async () => ['ann@example.com', 'ann@home.example'],
): Promise<Host> {
  const clock = fakeClock(NOON)
  const errors: unknown[] = []
  const events: TotpEvent[] = []
  const totp = await createTotp({
    issuer: 'Acme & Söhne <b>',
    encryptionKey: generateFernetKey(),
    store: memoryStore(),
    clock: clock.now,
    trustedDevices: { days: 30 },
    onError: (error) => void errors.push(error),
  })
  const { uri } = await totp.createTotpSetup({ id: 'ann', accountName: 'ann@example.com' })
  const phone = authenticatorFor(uri)
  await totp.confirmTotpSetup('ann', phone.codeAt(NOON))
  totp.on('mail.failed', (event) => void events.push(event))
  notifyByMail(totp, { addressesOf, send })
  const recovery = accountRecovery(totp, {
    findAccount: async (email) => (email === 'ann@example.com' ? { userId: 'ann', email } : null),
    addressesOf,
    checkPassword: async (_id, password) => password === 'correct horse',
    send,
    pageUrl: 'https://app.example/recover?lang=en',
  })
  return { totp, recovery, phone, clock, events, errors }
}

const to = (received: Received[], address: string) => {
  const found = received.find(({ recipients }) => recipients.includes(address))
  assert.ok(found, `no mail to ${address}`)
  return found.mail
}

test('a recovery link arrives at the address that asked, and a way to stop it at every other', async () => {
  const { received, port } = await smtpServer()
  const { totp, recovery } = await serviceThatMails(senderTo(port))

  await recovery.requestRecovery('ann@example.com')
  await totp.close()

  assert.equal(received.length, 2)
  const link = to(received, 'ann@example.com')
  assert.equal(link.subject, 'Acme & Söhne <b>: Turn off two-factor authentication')
  assert.equal(link.from?.address, 'security@acme.example')
  const [url = ''] = /https:\/\/app\.example\S+/.exec(link.text ?? '') ?? []
  assert.match(url, /^https:\/\/app\.example\/recover\?lang=en#uid=[\w-]+&token=[\w%-]+&from=\d+&until=\d+$/)
  assert.ok(link.html?.includes(`href="${url.replaceAll('&', '&amp;')}"`), 'the same link in both parts')
  assert.ok(!link.html?.includes('<b>'), 'the name of the service is no markup')
  const stop = to(received, 'ann@home.example')
  assert.match(stop.text ?? '', /#cancel=1&uid=/)
  const [, token] = /token=([^&\s]+)/.exec(stop.text ?? '') ?? []
  const uid = Buffer.from('ann').toString('base64url')
  const other = { uid, token: decodeURIComponent(String(token)) }
  await assert.rejects(recovery.confirmRecovery({ ...other, password: 'correct horse' }), {
    code: 'recovery_link_invalid',
  })
  await recovery.cancelRecovery(other)
  const own = { uid, token: decodeURIComponent(new URLSearchParams(new URL(url).hash.slice(1)).get('token') ?? '') }
  await assert.rejects(recovery.confirmRecovery({ ...own, password: 'correct horse' }), {
    code: 'recovery_link_invalid',
  })
})

test('the owner is told of what changes the second factor, at every address', async () => {
  const { received, port } = await smtpServer()
  const { totp, clock } = await serviceThatMails(senderTo(port))
  const subjects = async (work: () => Promise<unknown>) => {
    const before = received.length
    await work()
    await totp.close()
    return received.slice(before).map(({ recipients, mail }) => `${recipients}: ${mail.subject?.split('>: ')[1]}`)
  }
  const both = (subject: string) => [`ann@example.com: ${subject}`, `ann@home.example: ${subject}`]
  const fail = () => totp.verifyTotpCode('ann', '000000').catch(() => undefined)
  const codes = await totp.rotateBackupCodes('ann')
  await totp.close()

  for (const [work, subject] of [
    [() => totp.rotateBackupCodes('ann').then((fresh) => codes.splice(0, 10, ...fresh)), 'New backup codes'],
    [() => totp.verifyBackupCode('ann', codes[0] as string), 'A backup code was used'],
    [async () => totp.trustDevice(await totp.verifyBackupCode('ann', codes[1] as string), '<i>'), 'New trusted device'],
    [
      async () => [await fail(), await fail(), await fail(), await fail(), await fail()],
      'Incorrect codes after your password',
    ],
    [() => totp.disableTotp('ann'), 'Two-factor authentication is off'],
  ] as const) {
    const told = await subjects(work as () => Promise<unknown>)
    for (const line of both(subject)) assert.ok(told.includes(line), `${line} in ${told}`)
    clock.advance(60)
  }
  for (const { mail } of received) {
    assert.match(mail.text ?? '', /If this was not you|To be safe/)
    assert.ok(!mail.html?.includes('<i>'), 'a name that a user chose is no markup')
    for (const code of codes) assert.ok(!mail.text?.includes(code))
  }
})

/** What is mailed to Ann by each piece of work. */
async function serviceThatNotes() {
  const sent: string[] = []
  const service = await serviceThatMails(
    async (notice) => void sent.push(notice.kind),
    async () => ['ann@example.com'],
  )
  const noticesOf = async (work: () => Promise<unknown>) => {
    await service.totp.close()
    sent.length = 0
    await work()
    await service.totp.close()
    return [...sent]
  }
  const codes = await service.totp.rotateBackupCodes('ann')
  const prove = () => service.totp.verifyBackupCode('ann', String(codes.pop()))
  return { ...service, noticesOf, prove, tokens: jwtTokens(service.totp, { authenticate: async () => 'ann' }) }
}

test('the owner is told of what may be somebody else looking on: codes viewed, a clock that moved', async () => {
  const { totp, phone, clock, noticesOf } = await serviceThatNotes()

  assert.deepEqual(await noticesOf(() => totp.listBackupCodes('ann')), ['backup_codes_viewed'])
  clock.advance(3600)
  const wrong = totp.verifyTotpCode('ann', phone.codeAt(clock.now() - 150))
  await assert.rejects(wrong, { code: 'invalid_code' })
  const next = () => totp.verifyTotpCode('ann', phone.codeAt(clock.now() - 120))
  assert.deepEqual(await noticesOf(next), ['totp_resynchronized'])
})

test("the owner is told that a trusted device's token was copied, and not of a device that has ended otherwise", async () => {
  const { totp, clock, noticesOf, prove } = await serviceThatNotes()
  const login = (trustedDevice: string) => totp.startLogin('ann', { trustedDevice })
  const [copied, removed, changed, expired] = [
    await totp.trustDevice(await prove()),
    await totp.trustDevice(await prove(), 'removed'),
    await totp.trustDevice(await prove()),
    await totp.trustDevice(await prove(), 'old'),
  ].map(String) as [string, string, string, string]
  await login(copied)
  const device = (await totp.listTrustedDevices('ann')).find(({ name }) => name === 'removed')
  await totp.removeTrustedDevice('ann', String(device?.id))
  clock.advance(86_400)
  const renewed = await login(expired)

  assert.deepEqual(await noticesOf(() => login(copied)), ['trusted_device_copied'])
  assert.deepEqual(await noticesOf(() => login(copied)), [], 'once')
  assert.deepEqual(await noticesOf(() => login(removed)), [])
  clock.advance(29 * 86_400)
  assert.ok('trustedDevice' in renewed)
  assert.deepEqual(await noticesOf(() => login(String(renewed.trustedDevice))), [], 'its days are over')
  await totp.credentialsChanged('ann')
  assert.deepEqual(await noticesOf(() => login(changed)), [])
})

test('the owner is told that a refresh token was used again, once, and not after a logout or a change', async () => {
  const { totp, clock, noticesOf, prove, tokens } = await serviceThatNotes()
  clock.advance(60)
  const [copied, loggedOut, changed] = [
    await tokens.issueTokens(await prove()),
    await tokens.issueTokens(await prove()),
    await tokens.issueTokens(await prove()),
  ]
  const refused = (refresh: string) =>
    noticesOf(() => assert.rejects(tokens.refreshTokens(refresh), { code: 'invalid_token' }))
  const { refresh } = await tokens.refreshTokens(copied.refresh)
  const renewed = await tokens.refreshTokens(loggedOut.refresh)
  await tokens.logout(renewed.refresh)

  assert.deepEqual(await refused(copied.refresh), ['refresh_token_reused'])
  assert.deepEqual(await refused(copied.refresh), [], 'nobody can fill a mailbox with an old token')
  assert.deepEqual(await refused(refresh), [], 'the family has ended before')
  assert.deepEqual(await refused(renewed.refresh), [], 'the user logged out with it')
  assert.deepEqual(await refused(loggedOut.refresh), ['refresh_token_reused'], 'it was replaced before the logout')
  clock.advance(60)
  await totp.credentialsChanged('ann')
  clock.advance(60)
  assert.deepEqual(await refused(changed.refresh), [])
})

test('each kind of notice has words of its own, and they can be replaced kind by kind', async () => {
  const { received, port } = await smtpServer()
  const common = { to: 'ann@example.com', userId: 'ann', issuer: 'Acme', at: NOON }
  const link = { url: 'https://app.example/#uid=a&token=b', worksFrom: NOON + 60, expiresAt: NOON + 3600 }
  const notices: Notification[] = [
    { ...common, ...link, kind: 'recovery_link' },
    { ...common, ...link, kind: 'recovery_requested' },
    { ...common, kind: 'recovery_confirmed' },
    { ...common, kind: 'recovery_canceled' },
    { ...common, kind: 'totp_enabled' },
    { ...common, kind: 'totp_replaced' },
    { ...common, kind: 'authenticator_added' },
    { ...common, kind: 'authenticator_removed' },
    { ...common, kind: 'totp_disabled' },
    { ...common, kind: 'backup_codes_rotated' },
    { ...common, kind: 'backup_code_used', remaining: 3 },
    { ...common, kind: 'trusted_device_kept', name: null },
    { ...common, kind: 'second_factor_failing' },
    { ...common, kind: 'backup_codes_viewed' },
    { ...common, kind: 'trusted_device_copied' },
    { ...common, kind: 'refresh_token_reused' },
    { ...common, kind: 'totp_resynchronized', clockOffsetSeconds: 90 },
    { ...common, kind: 'totp_resynchronized', clockOffsetSeconds: -90 },
    { ...common, kind: 'second_factor_locked', method: 'totp' },
    { ...common, kind: 'second_factor_locked', method: 'backup_code' },
    { ...common, kind: 'recovery_failing' },
    { ...common, kind: 'recovery_locked' },
  ]
  const send = senderTo(port, {
    totp_enabled: ({ issuer, at }: Notification) => ({
      subject: `Hello\r\nBcc: eve@example.com`,
      text: `${issuer} ${at}`,
    }),
    backup_code_used: ({ remaining }: { remaining: number }) => ({
      subject: 'Used',
      text: `${remaining}`,
      html: '<p>x</p>',
    }),
  })

  for (const notice of notices) await send(notice)

  assert.equal(new Set(received.map(({ mail }) => mail.text)).size, notices.length)
  for (const { mail } of received)
    assert.equal(mail.headers.find(({ key }) => key === 'auto-submitted')?.value, 'auto-generated')
  assert.match(received[0]?.mail.text ?? '', /once, from January 15, 2027 at 08:01 UTC until/)
  assert.match(received[1]?.mail.text ?? '', /works from January 15, 2027 at 08:01 UTC/)
  const ours = received.filter((_, index) => !['totp_enabled', 'backup_code_used'].includes(notices[index]?.kind ?? ''))
  assert.equal(ours.length, notices.length - 2)
  for (const { mail } of ours) {
    assert.match(mail.text ?? '', /[Oo]n January 15, 2027 at 08:00 UTC/)
    assert.match(mail.text ?? '', /If this was not you|To be safe/)
    for (const line of mail.text?.split('\n').filter((line) => line !== '') ?? []) {
      assert.ok(mail.html?.replaceAll('&quot;', '"').replaceAll('&amp;', '&').includes(line.replace(/:$/, '')), line)
    }
  }
  const own = received[notices.findIndex(({ kind }) => kind === 'totp_enabled')]
  assert.equal(own?.mail.text?.trim(), `Acme ${NOON}`)
  assert.equal(own?.mail.html, undefined)
  assert.deepEqual(own?.recipients, ['ann@example.com'], 'a subject is one line and adds no recipient')
  assert.equal(own?.mail.bcc, undefined)
  assert.equal(received[10]?.mail.html?.trim(), '<p>x</p>')
})

test('when one kind of code is locked, the mail offers the other kind', async () => {
  const texts: string[] = []
  const send = nodemailerSender({ sendMail: async ({ text }) => void texts.push(text) }, { from: FROM })
  const common = { to: 'ann@example.com', userId: 'ann', issuer: 'Acme', at: NOON }

  for (const method of ['totp', 'backup_code'] as const) await send({ ...common, kind: 'second_factor_locked', method })

  assert.match(texts[0] ?? '', /^Codes from your authenticator app are locked .* Log in with a backup code, or/)
  assert.match(texts[1] ?? '', /^Backup codes are locked .* Log in with a code from your authenticator app, or/)
})

test('what users chose and what templates say stays on one line, and is no markup', async () => {
  const sent: Parameters<MailTransport['sendMail']>[0][] = []
  const transport: MailTransport = { sendMail: async (mail) => void sent.push(mail) }
  const send = nodemailerSender(transport, {
    from: FROM,
    templates: { totp_disabled: () => ({ subject: 'Off\r\nBcc: eve@example.com\u2028', text: 'Off.' }) },
  })
  const common = { to: 'ann@example.com', userId: 'ann', issuer: 'Küche & "Söhne" <b>', at: NOON }

  await send({ ...common, kind: 'trusted_device_kept', name: 'A"&<img src=x>\n\nYour account is closed: evil.example' })
  await send({ ...common, kind: 'totp_disabled' })

  const [device, off] = sent
  assert.equal(device?.subject, 'Küche & "Söhne" <b>: New trusted device')
  assert.match(device?.text ?? '', /^The device "A"&<img src=x> Your account is closed: evil.example" was added/)
  assert.match(device?.html ?? '', /The device &quot;A&quot;&amp;&lt;img src=x&gt; Your/)
  assert.match(device?.html ?? '', /<title>Küche &amp; &quot;Söhne&quot; &lt;b&gt;: New trusted device<\/title>/)
  assert.equal(off?.subject, 'Off Bcc: eve@example.com ')
})

test('an address with a comma in it is one address', async () => {
  const { received, port } = await smtpServer()
  const notice = { to: 'ann@example.com, eve@example.com', userId: 'ann', issuer: 'Acme', at: NOON } as const

  await senderTo(port)({ ...notice, kind: 'totp_enabled' }).catch(() => undefined)

  for (const { recipients } of received) assert.ok(!recipients.includes('eve@example.com'))
})

test('an SMTP server that is down fails no request; the failure is told without the link', async () => {
  const gone = createServer()
  await new Promise<void>((resolve) => gone.listen(0, '127.0.0.1', resolve))
  const { port } = gone.address() as AddressInfo
  await new Promise((resolve) => gone.close(resolve))
  const byMail = senderTo(port)
  const links: string[] = []
  const { totp, recovery, events, errors } = await serviceThatMails(async (notice) => {
    if (notice.kind === 'recovery_link') links.push(notice.url)
    await byMail(notice)
  })

  await recovery.requestRecovery('ann@example.com')
  await totp.rotateBackupCodes('ann')
  await totp.close()
  const said = new URLSearchParams(new URL(String(links[0])).hash.slice(1))
  const link = { uid: String(said.get('uid')), token: String(said.get('token')) }
  await recovery.confirmRecovery({ ...link, password: 'correct horse' })
  assert.equal(await totp.isTotpEnabled('ann'), false)
  await totp.close()

  assert.equal(events.length, 6, 'one for each mail')
  assert.equal(errors.length, 6)
  expect(inspect([events, errors], { depth: 9 })).toMatch(/ECONNREFUSED/)
  expect(inspect([events, errors], { depth: 9 })).not.toMatch(/token=|gAAAA/)
})

test('an SMTP server that quotes the link in its answer does not get it into an error', async () => {
  const { port } = await smtpServer({ quotes: true })
  const { totp, recovery, events, errors } = await serviceThatMails(senderTo(port))

  await recovery.requestRecovery('ann@example.com')
  await totp.close()

  assert.equal(events.length, 2)
  expect(inspect(errors, { depth: 9 })).toMatch(/EMESSAGE DATA 450/)
  expect(inspect(errors, { depth: 9 })).not.toMatch(/token=|gAAAA|app\.example/)
})

test('when the addresses of a user cannot be had, or one mail fails at once, that is told and the rest goes on', async () => {
  const notices: Notification[] = []
  const send: SendNotification = (notice) => {
    if (notice.to === 'ann@example.com') throw new Error('a sender that throws')
    notices.push(notice)
    return Promise.resolve()
  }
  let areGone = false
  const { totp, events, errors } = await serviceThatMails(send, async () => {
    if (areGone) throw new Error('no users')
    return ['ann@example.com', 'ann@home.example']
  })

  await totp.rotateBackupCodes('ann')
  await totp.close()
  areGone = true
  await totp.rotateBackupCodes('ann')
  await totp.close()

  assert.deepEqual(
    notices.map(({ to, kind }) => `${kind} ${to}`),
    ['backup_codes_rotated ann@home.example'],
  )
  assert.deepEqual(
    errors.map((error) => (error as Error).message),
    ['a sender that throws', 'no users'],
  )
  assert.deepEqual(
    events.map(({ type, userId }) => `${type} ${userId}`),
    ['mail.failed ann', 'mail.failed ann'],
  )
})

test('an SMTP server that accepts and says nothing holds up no request', async () => {
  const sockets: Socket[] = []
  const silent = createServer((socket) => void sockets.push(socket))
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy()
    silent.close()
  })
  const { totp, recovery, events } = await serviceThatMails(senderTo((silent.address() as AddressInfo).port))
  let isAnswered = false

  const asked = recovery.requestRecovery('ann@example.com').then(() => {
    isAnswered = true
  })
  await asked

  assert.ok(isAnswered)
  assert.equal(sockets.length, 0, 'the answer came before the server was even called')
  await totp.close()
  assert.equal(events.length, 2)
  assert.ok(sockets.length > 0)
})

test('a mail that hangs holds up neither the other mails nor close for longer than ten seconds, and the link goes out last', async () => {
  for (const hangs of ['ann@example.com', 'ann@home.example']) {
    const sent: string[] = []
    const { totp, recovery, events, errors } = await serviceThatMails(({ kind, to }) => {
      sent.push(`${kind} ${to}`)
      return to === hangs ? new Promise(() => undefined) : Promise.resolve()
    })
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    try {
      await recovery.requestRecovery('ann@example.com')
      await vi.advanceTimersByTimeAsync(255)
      assert.deepEqual(sent, ['recovery_requested ann@home.example', 'recovery_link ann@example.com'])
      await totp.rotateBackupCodes('ann')
      await vi.advanceTimersByTimeAsync(255)
      assert.deepEqual(sent.slice(2).sort(), [
        'backup_codes_rotated ann@example.com',
        'backup_codes_rotated ann@home.example',
      ])
      let isClosed = false
      const closed = totp.close().then(() => {
        isClosed = true
      })
      await vi.advanceTimersByTimeAsync(9_000)
      assert.equal(isClosed, false, 'close waits for mails under way')
      await vi.advanceTimersByTimeAsync(1_000)
      await closed
      assert.equal(vi.getTimerCount(), 0)
    } finally {
      vi.useRealTimers()
    }
    assert.deepEqual(
      events.map(({ type }) => type),
      ['mail.failed', 'mail.failed'],
    )
    assert.deepEqual(
      errors.map((error) => (error as Error).message),
      Array(2).fill('sending an email took longer than 10 seconds'),
    )
  }
})

test('addresses that do not come hold up close for ten seconds, and no link goes out without its warnings', async () => {
  const sent: Notification[] = []
  const { totp, recovery, events } = await serviceThatMails(
    async (notice) => void sent.push(notice),
    () => new Promise(() => undefined),
  )
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  try {
    await totp.rotateBackupCodes('ann')
    await recovery.requestRecovery('ann@example.com')
    const closed = totp.close()
    await vi.advanceTimersByTimeAsync(10_255)
    await closed
  } finally {
    vi.useRealTimers()
  }
  assert.deepEqual(sent, [])
  assert.equal(events.length, 2)
})

test('one address that is refused does not keep the others from being told', async () => {
  const { received, port } = await smtpServer({ refuses: 'ann@example.com' })
  const { totp, recovery, events } = await serviceThatMails(senderTo(port))

  await recovery.requestRecovery('ann@example.com')
  await totp.close()

  assert.deepEqual(
    received.flatMap(({ recipients }) => recipients),
    ['ann@home.example'],
  )
  assert.equal(events.length, 1)
})
