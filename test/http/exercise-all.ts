import {
  beginEnrollment,
  challenge,
  enroll,
  linkIn,
  logIn,
  logInWithPhone,
  nextCode,
  sessionIn,
  wrongCode,
} from './actors.ts'
import type { Answer } from './answer.ts'
import type { Service } from './harness.ts'
import { rows } from './rows.ts'

/** Calls each operation so that it succeeds, and so that it refuses; `service.call` holds each answer to the document. */
export async function exerciseAll(service: Service): Promise<Record<string, Answer[]>> {
  const seen: Record<string, Answer[]> = {}
  const call = async (operationId: string, json?: unknown, bearer?: string, id = 'no-such-id') => {
    const { method, template } = rows.find((row) => row.operationId === operationId) ?? { method: 'GET', template: '' }
    const answer = await service.call({ method, path: `${template.replace('{id}', id)}/`, json, bearer })
    seen[operationId] = [...(seen[operationId] ?? []), answer]
    return answer
  }
  for (const { operationId } of rows) await call(operationId, undefined)

  const { username, password, ...alice } = service.register('alice')
  const person = { ...alice, username, password }
  await call('createTokens', { username, password: 'wrong horse' })
  await call('createTokens', { username, password })
  const { access } = await logIn(service, person)
  await call('confirmTotpSetup', { input_code: '123456' }, access)
  await call('disableTotp', undefined, access)
  await call('createTotpSetup', { name: 'Phone' }, access)
  await call('rotateBackupCodes', undefined, access)
  await call('disableTotp', undefined, access)
  const phone = await beginEnrollment(service, access)
  await call('confirmTotpSetup', { input_code: wrongCode(service, phone) }, access)
  const confirmed = await call('confirmTotpSetup', { input_code: phone.codeAt(service.clock.now()) }, access)
  const [first, second] = confirmed.body.backup_codes as [string, string]
  await call('confirmTotpSetup', { input_code: '123456' }, access)
  await call('createTotpSetup', undefined, access)
  await call('rotateBackupCodes', undefined, access)
  await call('listBackupCodes', undefined, access)
  await call('createTokens', { username, password })
  const totp_challenge_token = await challenge(service, person)
  await call('answerChallenge', { totp_challenge_token, otp_code: wrongCode(service, phone) })
  await call('answerChallenge', { totp_challenge_token, otp_code: nextCode(service, phone) })
  await call('answerChallenge', { totp_challenge_token, otp_code: nextCode(service, phone) })
  await call('answerChallenge', { totp_challenge_token: await challenge(service, person), backup_code: first })
  await call('verifySecondFactor', { backup_code: second }, access)
  await call('verifySecondFactor', { otp_code: wrongCode(service, phone) }, access)
  const session = await logInWithPhone(service, { person, phone })
  const live = await call('getStatus', undefined, session.access)
  await call('backupCodesSaved', undefined, session.access)
  await call('renameAuthenticator', { name: 'Old phone' }, session.access)
  await call('renameAuthenticator', { name: 'Old phone' }, session.access, idIn(live.body.authenticators))
  await call('listBackupCodes', undefined, session.access)
  await call('rotateBackupCodes', undefined, session.access)
  await call('createTotpSetup', undefined, session.access)
  await call('removeAuthenticator', undefined, session.access)
  const spare = await beginEnrollment(service, session.access)
  await call('confirmTotpSetup', { input_code: spare.codeAt(service.clock.now()) }, session.access)
  const again = { totp_challenge_token: await challenge(service, person), otp_code: nextCode(service, phone) }
  const trusting = await call('answerChallenge', { ...again, trust_device: true, device_name: 'Laptop' })
  const fresh = sessionIn(trusting.body)
  const status = await call('getStatus', undefined, fresh.access)
  const { trusted_device } = trusting.body
  await call('createTokens', { username, password, trusted_device })
  const devices = await call('listTrustedDevices', undefined, fresh.access)
  await call('removeTrustedDevice', undefined, fresh.access)
  await call('removeTrustedDevice', undefined, fresh.access, idIn(devices.body.trusted_devices))
  await call('removeTrustedDevices', undefined, fresh.access)
  await call('removeAuthenticator', undefined, fresh.access, idIn(status.body.authenticators))
  await call('verifyToken', { token: fresh.access })
  await call('refreshTokens', { refresh: fresh.refresh })
  await call('refreshTokens', { refresh: fresh.refresh })
  await call('logout', { refresh: session.refresh })
  await call('logout', { refresh: session.access })
  const last = await logInWithPhone(service, { person, phone: spare })
  await call('disableTotp', undefined, last.access)
  const { email } = await enroll(service, 'bob').then(({ person }) => person)
  await call('requestRecovery', { email })
  await call('requestRecovery', { email })
  await service.mailed(2)
  const [link, other] = service.mails.map(linkIn)
  await call('confirmRecovery', { ...link, password: 'wrong horse' })
  await call('cancelRecovery', other)
  await call('cancelRecovery', other)
  await call('requestRecovery', { email })
  await service.mailed(3)
  await call('confirmRecovery', { ...service.mails.map(linkIn)[2], password })
  return seen
}

function idIn(list: unknown): string {
  const [first] = list as { id: string }[]
  return String(first?.id)
}
