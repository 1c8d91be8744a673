import { describe, expect, test } from 'vitest'
import { challenge, claimsIn, enroll, logIn, logInWith, logInWithPhone, nextCode } from './actors.ts'
import { FETCH, frameworks, startService } from './harness.ts'

describe.each(frameworks)('$name: a backup code', (front) => {
  test('logs in once, says how many are left, and that no authenticator was used', async () => {
    const service = await startService(front)
    const { person, backupCodes } = await enroll(service)
    for (const [index, left] of [9, 8].entries()) {
      const totp_challenge_token = await challenge(service, person)
      const backup_code = backupCodes[index]
      const { outcome, body } = await service.post('jwt/totp/verify/', { totp_challenge_token, backup_code })
      expect(outcome).toBe('200')
      expect(Object.keys(body).sort()).toEqual(['access', 'backup_codes_remaining', 'refresh'])
      expect(body.backup_codes_remaining).toBe(left)
      expect(claimsIn(String(body.access))).toMatchObject({ amr: ['pwd', 'mfa'], acr: 'aal2' })
      const again = { totp_challenge_token: await challenge(service, person), backup_code }
      expect((await service.post('jwt/totp/verify/', again)).outcome).toBe('400 invalid_code')
    }
  })

  test('is good once however many requests race with it', async () => {
    const service = await startService(front)
    const { person, backupCodes } = await enroll(service)
    const tokens = await Promise.all(Array.from({ length: 4 }, () => challenge(service, person)))
    const answers = await Promise.all(
      tokens.map((totp_challenge_token) =>
        service.post('jwt/totp/verify/', { totp_challenge_token, backup_code: backupCodes[0] }),
      ),
    )
    expect(answers.filter(({ outcome }) => outcome === '200')).toHaveLength(1)
  })

  test.each<[string, (code: string) => string]>([
    ['in small letters', (code) => code.toLowerCase()],
    ['without hyphens', (code) => code.replaceAll('-', '')],
    ['with spaces for hyphens and around it', (code) => ` ${code.replaceAll('-', ' ')} `],
    ['with an O for a zero and an l for a one', (code) => code.replaceAll('0', 'O').replaceAll('1', 'l')],
    ['in full-width characters', (code) => code.replace(/\w/g, (c) => String.fromCharCode(c.charCodeAt(0) + 0xfee0))],
  ])('is taken %s', async (_, spell) => {
    const service = await startService(front)
    const { person, backupCodes } = await enroll(service)
    await logInWith(service, person, { backup_code: spell(String(backupCodes[7])) })
  })

  test('is no code of the app, nor the other way round', async () => {
    const service = await startService(front)
    const { session, phone, backupCodes } = await enroll(service)
    const swapped = [{ otp_code: backupCodes[0] }, { backup_code: nextCode(service, phone) }]
    for (const codes of swapped) {
      expect((await service.post('totp/verify/', codes, session.access)).outcome).toBe('400 invalid_code')
    }
  })
})

describe.each(frameworks)('$name: the set of backup codes', (front) => {
  test('is viewed in the order in which it was handed out, with the times of use', async () => {
    const service = await startService(front)
    const { person, backupCodes } = await enroll(service)
    service.clock.advance(60)
    const usedAt = new Date(service.clock.now() * 1000).toISOString().replace('.000Z', 'Z')
    const { access } = await logInWith(service, person, { backup_code: String(backupCodes[4]) })
    const { outcome, body } = await service.get('totp/backup_codes/', access)
    expect(outcome).toBe('200')
    expect(body).toEqual({
      backup_codes: backupCodes.map((code, index) => ({ code, used_at: index === 4 ? usedAt : null })),
    })
  })

  test('is new after a rotation: the old ones are useless, used or not', async () => {
    const service = await startService(front)
    const { person, session, phone, backupCodes } = await enroll(service)
    const { access } = await logInWith(service, person, { backup_code: String(backupCodes[0]) })
    const rotated = await service.post('totp/rotate_backup_codes/', { input_code: nextCode(service, phone) }, access)
    expect(rotated.outcome).toBe('200')
    expect(Object.keys(rotated.body).sort()).toEqual(['access', 'backup_codes', 'refresh'])
    const codes = rotated.body.backup_codes as string[]
    expect(new Set([...codes, ...backupCodes]).size).toBe(20)
    for (const backup_code of backupCodes.slice(0, 3)) {
      const old = await service.post('totp/verify/', { backup_code }, session.access)
      expect(old.outcome).toBe('400 invalid_code')
    }
    await logInWith(service, person, { backup_code: String(codes[9]) })
    expect((await service.get('totp/status/', session.access)).body.backup_codes_remaining).toBe(9)
  })

  test('of another user is not shown', async () => {
    const service = await startService(front)
    const alice = await enroll(service, 'alice')
    const bob = await logIn(service, service.register('bob'))
    expect((await service.get('totp/backup_codes/', bob.access)).outcome).toBe('400 totp_not_set_up')
    const { access } = await logInWithPhone(service, alice)
    const mine = await service.get('totp/backup_codes/', access)
    expect((mine.body.backup_codes as { code: string }[]).map(({ code }) => code)).toEqual(alice.backupCodes)
  })

  test('kept hashed works, and cannot be viewed again', async () => {
    const service = await startService(front, { backupCodes: { storage: 'hashed' } })
    const { person, backupCodes } = await enroll(service)
    const { access } = await logInWith(service, person, { backup_code: String(backupCodes[0]) })
    expect((await service.get('totp/backup_codes/', access)).outcome).toBe('404 not_found')
  })
})

test('the host chooses how many codes a set has', async () => {
  const service = await startService(FETCH, { backupCodes: { count: 3 } })
  const { backupCodes, session } = await enroll(service)
  expect(backupCodes).toHaveLength(3)
  expect((await service.get('totp/status/', session.access)).body.backup_codes_remaining).toBe(3)
})
