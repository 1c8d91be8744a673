/** The tables of wire.md, as far as they are mounted: written down a second time, so that a change of the wire shows. */
export interface Row {
  operationId: string
  method: 'GET' | 'POST' | 'PATCH' | 'DELETE'
  /** As the OpenAPI document names it. */
  template: string
  /** With an id in it that nothing has. */
  path: string
  /** Needs a caller of the host's. */
  caller: boolean
  /** Fields that must be there, each with a value of the right shape. */
  required: Readonly<Record<string, string>>
  optional: Readonly<Record<string, string>>
}

export const rows: readonly Row[] = [
  row('createTotpSetup', 'POST', 'totp/create', { caller: true, optional: { name: 'Phone', input_code: '123456' } }),
  row('confirmTotpSetup', 'POST', 'totp/confirm', { caller: true, required: { input_code: '123456' } }),
  row('disableTotp', 'POST', 'totp/disable', { caller: true, optional: { input_code: '123456' } }),
  row('rotateBackupCodes', 'POST', 'totp/rotate_backup_codes', { caller: true, optional: { input_code: '123456' } }),
  row('backupCodesSaved', 'POST', 'totp/backup_codes_saved', { caller: true }),
  row('getStatus', 'GET', 'totp/status', { caller: true }),
  row('verifySecondFactor', 'POST', 'totp/verify', { caller: true, required: { otp_code: '123456' } }),
  row('listBackupCodes', 'GET', 'totp/backup_codes', { caller: true }),
  row('renameAuthenticator', 'PATCH', 'totp/authenticators/{id}', { caller: true, required: { name: 'Phone' } }),
  row('removeAuthenticator', 'DELETE', 'totp/authenticators/{id}', {
    caller: true,
    optional: { input_code: '123456' },
  }),
  row('listTrustedDevices', 'GET', 'totp/trusted_devices', { caller: true }),
  row('removeTrustedDevice', 'DELETE', 'totp/trusted_devices/{id}', {
    caller: true,
    optional: { input_code: '123456' },
  }),
  row('removeTrustedDevices', 'DELETE', 'totp/trusted_devices', { caller: true, optional: { input_code: '123456' } }),
  row('createTokens', 'POST', 'jwt/create', {
    required: { username: 'nobody-here', password: 'wrong horse' },
    optional: { trusted_device: 'not-a-token' },
  }),
  row('answerChallenge', 'POST', 'jwt/totp/verify', {
    required: { totp_challenge_token: 'not-a-token', otp_code: '123456' },
    optional: { device_name: 'My laptop' },
  }),
  row('refreshTokens', 'POST', 'jwt/refresh', { required: { refresh: 'not-a-token' } }),
  row('verifyToken', 'POST', 'jwt/verify', { required: { token: 'not-a-token' } }),
  row('logout', 'POST', 'jwt/logout', { required: { refresh: 'not-a-token' } }),
  row('requestRecovery', 'POST', 'totp/recovery', { required: { email: 'nobody@example.com' } }),
  row('confirmRecovery', 'POST', 'totp/recovery_confirm', {
    required: { uid: 'bm9ib2R5', token: 'not-a-token', password: 'wrong horse' },
  }),
  row('cancelRecovery', 'POST', 'totp/recovery_cancel', { required: { uid: 'bm9ib2R5', token: 'not-a-token' } }),
]

/** Rows that take a body. */
export const posts = rows.filter(({ method }) => method !== 'GET')
export const callerRows = rows.filter(({ caller }) => caller)

/** Every text field of every body. */
export const fields = posts.flatMap((post) =>
  Object.keys({ ...post.required, ...post.optional }).map((field) => ({ ...post, field })),
)

function row(
  operationId: string,
  method: Row['method'],
  template: string,
  { caller = false, required = {}, optional = {} }: Partial<Row>,
): Row {
  return { operationId, method, template, path: template.replace('{id}', 'no-such-id'), caller, required, optional }
}
