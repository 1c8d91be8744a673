import type { TotpEvent } from 'totp-kit'
import { expect, test } from 'vitest'
import { challenge, type Enrolled, enroll, linkIn, logInWith, nextCode, wrongCode } from '../http/actors.ts'
import { FETCH, NODE, type Service, startService } from '../http/harness.ts'

async function answer(service: Service, { person }: Enrolled, backup_code: string) {
  const totp_challenge_token = await challenge(service, person)
  return service.post('jwt/totp/verify/', { totp_challenge_token, backup_code })
}

test('CVE-2025-67507, GHSA-pvcv-q3q7-266g (Filament): a backup code logs in once', async () => {
  const service = await startService(FETCH)
  const alice = await enroll(service)
  const [code] = alice.backupCodes as [string]
  expect((await answer(service, alice, code)).outcome).toBe('200')
  expect((await answer(service, alice, code)).outcome).toBe('400 invalid_code')
  expect((await answer(service, alice, code.toLowerCase().replaceAll('-', ''))).outcome).toBe('400 invalid_code')
})

test('CVE-2026-48505, GHSA-mc5j-f6wx-h9qh (Filament): of 50 requests at once with one backup code one is let in, and one code is gone', async () => {
  const service = await startService(NODE)
  const alice = await enroll(service)
  const challenges = await Promise.all(Array.from({ length: 50 }, () => challenge(service, alice.person)))
  const answers = await Promise.all(
    challenges.map((totp_challenge_token) =>
      service.post('jwt/totp/verify/', { totp_challenge_token, backup_code: alice.backupCodes[0] }),
    ),
  )
  expect(answers.filter(({ outcome }) => outcome === '200')).toHaveLength(1)
  expect((await service.totp.getStatus(alice.person.id)).backupCodesRemaining).toBe(9)
})

test('CVE-2026-31875, GHSA-4hf6-3x24-c9m8 (Parse Server): a backup code is consumed by whatever it opened: step-up, a change, a function, a login', async () => {
  const service = await startService(FETCH)
  const alice = await enroll(service)
  const { person, session, backupCodes } = alice
  const uses = [
    (code: string) => service.post('totp/verify/', { backup_code: code }, session.access),
    (code: string) => service.post('totp/create/', { input_code: code }, session.access),
    async (code: string) => ({ status: (await service.totp.verifyBackupCode(person.id, code)) ? 200 : 0 }),
    (code: string) => answer(service, alice, code),
  ]
  for (const [n, use] of uses.entries()) {
    const code = String(backupCodes[n])
    expect((await use(code)).status).toBeLessThan(300)
    expect((await service.totp.getStatus(person.id)).backupCodesRemaining).toBe(9 - n)
    expect((await answer(service, alice, code)).outcome).toBe('400 invalid_code')
    await service.totp.unlock(person.id)
  }
})

test('CVE-2026-33624, GHSA-2299-ghjr-6vjp, GHSA-w73w-g5xw-rwhf, GHSA-jpq4-7fmq-q5fj, GHSA-r3xq-68wh-gwvh (Parse Server): whatever is good once is good for one of 20 requests at once: codes, challenges, links, devices, refresh tokens', async () => {
  const service = await startService(NODE)
  const alice = await enroll(service)
  const { person, phone, session, backupCodes } = alice
  const { email, username, password } = person
  const successes = async (send: (n: number) => Promise<{ status: number; body: Record<string, unknown> }>) => {
    const answers = await Promise.all(Array.from({ length: 20 }, (_, n) => send(n)))
    await service.totp.unlock(person.id)
    // A device that is not believed is asked for a code, with the status of a success.
    return answers.filter(({ status, body }) => status < 300 && body.is_totp_enabled !== true).length
  }
  const link = async () => {
    const before = service.mails.length
    await service.post('totp/recovery/', { email })
    await service.mailed(before + 1)
    return linkIn(service.mails[before] as (typeof service.mails)[number])
  }
  const device = async () => {
    const totp_challenge_token = await challenge(service, person)
    const otp_code = nextCode(service, phone)
    return (await service.post('jwt/totp/verify/', { totp_challenge_token, otp_code, trust_device: true })).body
  }

  const otp_code = nextCode(service, phone)
  expect(await successes(() => service.post('totp/verify/', { otp_code }, session.access)), 'code').toBe(1)
  const backup_code = backupCodes[0]
  expect(await successes(() => service.post('totp/verify/', { backup_code }, session.access)), 'backup code').toBe(1)
  const token = await challenge(service, person)
  const several = backupCodes.slice(1)
  const onChallenge = (n: number) =>
    service.post('jwt/totp/verify/', { totp_challenge_token: token, backup_code: several[n % several.length] })
  expect(await successes(onChallenge), 'challenge').toBe(1)
  const { trusted_device, refresh } = await device()
  expect(await successes(() => service.post('jwt/create/', { username, password, trusted_device })), 'device').toBe(1)
  expect(await successes(() => service.post('jwt/refresh/', { refresh })), 'refresh token').toBe(1)
  const canceled = await link()
  expect(await successes(() => service.post('totp/recovery_cancel/', canceled)), 'canceling').toBe(1)
  const confirmed = { ...(await link()), password }
  expect(await successes(() => service.post('totp/recovery_confirm/', confirmed)), 'recovery link').toBe(1)
})

test('appwrite/appwrite #11692: different backup codes at once are all taken, and none comes back', async () => {
  const service = await startService(NODE)
  const alice = await enroll(service)
  for (const half of [alice.backupCodes.slice(0, 5), alice.backupCodes.slice(5)]) {
    const answers = await Promise.all(half.map((code) => answer(service, alice, code)))
    expect(answers.map(({ outcome }) => outcome)).toEqual(Array(5).fill('200'))
  }
  expect((await service.totp.getStatus(alice.person.id)).backupCodesRemaining).toBe(0)
  for (const code of alice.backupCodes) {
    expect((await answer(service, alice, code)).outcome).toBe('400 invalid_code')
    await service.totp.unlock(alice.person.id)
  }
})

test('@nulix/adonis-2fa, @enteocode/nestjs-mfa (by reading them): a backup code is consumed, and neither it nor a code of the app stands in an event, an error or a line on stderr', async () => {
  const service = await startService(FETCH)
  const said: string[] = []
  const types: TotpEvent['type'][] = [
    'totp.created',
    'totp.confirmed',
    'totp.verified',
    'totp.refused',
    'totp.failing',
    'backup_code.used',
    'backup_codes.rotated',
    'backup_codes.viewed',
  ]
  for (const type of types) service.totp.on(type, (event) => void said.push(JSON.stringify(event)))
  const write = process.stderr.write
  process.stderr.write = ((text: string) => said.push(text) > 0) as typeof write
  const alice = await enroll(service)
  const { person, phone, session, backupCodes } = alice
  const wrong = wrongCode(service, phone)
  const right = nextCode(service, phone)
  try {
    await logInWith(service, person, { backup_code: String(backupCodes[0]) })
    const { access } = await logInWith(service, person, { otp_code: right })
    for (let n = 0; n < 5; n++) await service.post('totp/verify/', { otp_code: wrong }, session.access)
    const again = await service.post('totp/verify/', { backup_code: backupCodes[0] }, access)
    expect(again.outcome, 'the code is used up').toBe('400 invalid_code')
    expect((await service.totp.getStatus(person.id)).backupCodesRemaining).toBe(backupCodes.length - 1)
    await service.get('totp/backup_codes/', access)
    service.broken.add('settleAttempt')
    expect((await service.post('totp/verify/', { backup_code: backupCodes[1] }, access)).status).toBe(503)
    service.broken.delete('settleAttempt')
    const { body } = await service.post('totp/rotate_backup_codes/', undefined, access)
    backupCodes.push(...(body.backup_codes as string[]))
  } finally {
    process.stderr.write = write
  }
  const heard = said.concat(service.errors.map((error) => `${error} ${(error as Error).cause}`)).join('\n')
  for (const type of types) expect(heard).toContain(type)
  expect(heard).toContain('TotpError')
  const spellings = backupCodes.flatMap((code) => [code, code.replaceAll('-', '')])
  for (const code of [wrong, right, alice.confirmingCode, ...spellings]) expect(heard).not.toContain(code)
})
