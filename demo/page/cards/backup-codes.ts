import type { Account } from '../app.ts'
import { withSignIn, withStepUp } from '../dialogs.ts'
import { el } from '../dom.ts'
import { actionButton, errorRegion } from '../form.ts'

const FEW = 3

export function backupCodesCard({
  app,
  me: { username },
  status: { backup_codes_remaining: left },
}: Account): HTMLElement {
  const errors = errorRegion()
  const view = actionButton({
    action: 'view-codes',
    label: 'Show my codes',
    busyLabel: 'Opening…',
    errors,
    own: {
      not_found: 'The codes cannot be shown again: the server keeps no readable copy. If you lost them, make new ones.',
    },
    work: async () => {
      const reason = 'To see your backup codes, show again that it is you.'
      const kept = await withSignIn(app, username, reason, app.api.keptCodes)
      if (kept !== null) app.toBackupCodes({ codes: kept.backup_codes, username, occasion: 'viewed' })
    },
  })
  const rotate = actionButton({
    action: 'rotate',
    label: 'Make new codes',
    busyLabel: 'Making…',
    errors,
    work: async () => {
      const made = await withStepUp('To replace your backup codes, enter a code.', app.api.rotateBackupCodes)
      if (made === null) return
      const codes = made.backup_codes.map((code) => ({ code, used_at: null }))
      app.toBackupCodes({ codes, username, occasion: 'rotated' })
    },
  })
  return el(
    'section',
    { class: 'card' },
    el('h2', {}, 'Backup codes'),
    el(
      'p',
      {},
      'For when your phone is not at hand. ',
      el('strong', { 'data-codes-left': String(left) }, inWords(left)),
    ),
    left > FEW
      ? null
      : el(
          'p',
          { class: 'warning' },
          `${left === 0 ? 'Make' : 'Few are left: make'} new codes now. The old ones stop working then.`,
        ),
    errors.element,
    el('div', { class: 'actions' }, view, rotate),
  )
}

function inWords(left: number): string {
  return left === 0 ? 'You have none left.' : `You have ${left} left.`
}
