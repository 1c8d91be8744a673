import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { NotificationKind } from 'totp-kit/mail'
import { expect, test } from 'vitest'
import { problems } from '../src/contract/problems.ts'
import { ROOT } from './markdown.ts'

const KINDS = {
  totp_enabled: true,
  totp_replaced: true,
  totp_disabled: true,
  authenticator_added: true,
  authenticator_removed: true,
  backup_codes_rotated: true,
  backup_code_used: true,
  trusted_device_kept: true,
  second_factor_failing: true,
  second_factor_locked: true,
  recovery_link: true,
  recovery_requested: true,
  recovery_confirmed: true,
  recovery_canceled: true,
  recovery_failing: true,
  recovery_locked: true,
  backup_codes_viewed: true,
  trusted_device_copied: true,
  refresh_token_reused: true,
  totp_resynchronized: true,
} satisfies Record<NotificationKind, true>

test('the list of texts for end users has every refusal, every kind of email, field errors and the page', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, ['test/texts/texts.mjs'], { cwd: ROOT })
  const lines = stdout.split('\n')

  for (const [code, { title, detail }] of Object.entries(problems)) {
    for (const line of [code, `  ${title}`, `  ${detail}`]) expect(lines).toContain(line)
  }
  for (const kind of Object.keys(KINDS)) expect(lines).toContain(kind)
  for (const file of ['dist/http/body.js', 'demo/page/index.html', 'demo/page/wording.ts'])
    expect(lines).toContain(file)
  for (const piece of ['QR code', '  now', '  fast', '  iPhone']) expect(lines).toContain(piece)
  expect(stdout).not.toMatch(/undefined|\[object/)
})
