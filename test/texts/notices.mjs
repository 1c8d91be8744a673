/** One notice of each kind, and of each form that its text can have. */
const day = 1_800_000_000
const link = { url: 'https://acme.example/recover#uid=YW5u&token=gAAAAA', expiresAt: day + 86_400 }

export const NOTICES = [
  { kind: 'totp_enabled' },
  { kind: 'totp_replaced' },
  { kind: 'totp_disabled' },
  { kind: 'authenticator_added' },
  { kind: 'authenticator_removed' },
  { kind: 'backup_codes_rotated' },
  { kind: 'backup_code_used', remaining: 3 },
  { kind: 'backup_code_used', remaining: 1 },
  { kind: 'backup_code_used', remaining: 0 },
  { kind: 'trusted_device_kept', name: 'Firefox on Linux' },
  { kind: 'trusted_device_kept', name: null },
  { kind: 'second_factor_failing' },
  { kind: 'second_factor_locked', method: 'totp' },
  { kind: 'second_factor_locked', method: 'backup_code' },
  { kind: 'recovery_link', ...link, worksFrom: day },
  { kind: 'recovery_link', ...link, worksFrom: day + 3600 },
  { kind: 'recovery_requested', ...link, worksFrom: day },
  { kind: 'recovery_requested', ...link, worksFrom: day + 3600 },
  { kind: 'recovery_confirmed' },
  { kind: 'recovery_canceled' },
  { kind: 'recovery_failing' },
  { kind: 'recovery_locked' },
  { kind: 'backup_codes_viewed' },
  { kind: 'trusted_device_copied' },
  { kind: 'refresh_token_reused' },
  { kind: 'totp_resynchronized', clockOffsetSeconds: 90 },
  { kind: 'totp_resynchronized', clockOffsetSeconds: -90 },
]
