import type { Account } from '../app.ts'
import { deliberately, withStepUp } from '../dialogs.ts'
import { el } from '../dom.ts'
import { actionButton, type ErrorRegion, errorRegion } from '../form.ts'
import { count } from '../wording.ts'

/** Few are left when fewer than this part of a full set is. */
const FEW = 1 / 3

export function backupCodesCard(account: Account): HTMLElement {
  const { backup_codes_remaining: left, backup_codes_saved_at, policy } = account.status
  const errors = errorRegion()
  const isUnsaved = backup_codes_saved_at === null && left > 0
  return el(
    'section',
    { class: 'card' },
    el('h2', {}, 'Backup codes'),
    el(
      'p',
      {},
      'Use them when you don’t have your phone. ',
      el('strong', { 'data-codes-left': String(left) }, `You have ${count(left, 'backup code')} left.`),
    ),
    left >= policy.backup_codes_total * FEW ? null : el('p', { class: 'warning' }, fewWords(left)),
    isUnsaved
      ? el(
          'p',
          { class: 'warning', 'data-codes-unsaved': true },
          `You have not confirmed that you saved your codes. ${policy.backup_codes_viewable ? 'View them and save them now.' : 'If you did not save them, generate new codes.'}`,
        )
      : null,
    errors.element,
    el(
      'div',
      { class: 'actions' },
      policy.backup_codes_viewable ? viewButton(account, isUnsaved, errors) : null,
      isUnsaved ? savedButton(account, errors) : null,
      generateButton(account, errors),
    ),
  )
}

function viewButton({ app, me: { username } }: Account, isUnsaved: boolean, errors: ErrorRegion): HTMLElement {
  return actionButton({
    action: 'view-codes',
    label: 'View codes',
    busyLabel: null,
    errors,
    work: async () => {
      const kept = await withStepUp(app, 'Enter a code to view your backup codes.', app.api.keptCodes)
      if (kept === null) return
      app.toBackupCodes({ codes: kept.backup_codes, username, occasion: isUnsaved ? 'unsaved' : 'viewed' })
    },
  })
}

function savedButton({ app }: Account, errors: ErrorRegion): HTMLElement {
  return actionButton({
    action: 'codes-saved',
    label: 'I saved my codes',
    busyLabel: 'Saving…',
    errors,
    work: async () => {
      await app.api.backupCodesSaved()
      app.toAccount()
    },
  })
}

function generateButton({ app, me: { username }, status }: Account, errors: ErrorRegion): HTMLElement {
  const { backup_codes_remaining: left } = status
  return actionButton({
    action: 'rotate',
    label: 'Generate new codes',
    busyLabel: null,
    errors,
    work: async () => {
      const deed = {
        question: 'Generate new backup codes?',
        consequence:
          left === 0
            ? 'You have no backup codes left.'
            : `Your ${count(left, 'backup code')} will stop working. This cannot be undone.`,
        action: 'confirm-rotate',
        label: 'Generate new codes',
        busyLabel: 'Generating…',
      }
      const made = await deliberately(app, deed, app.api.rotateBackupCodes)
      if (made === null) return
      const codes = made.done.backup_codes.map((code) => ({ code, used_at: null }))
      app.toBackupCodes({ codes, username, occasion: 'rotated' })
    },
  })
}

function fewWords(left: number): string {
  if (left === 0) return 'You have no backup codes left. Generate new ones.'
  return `You have only ${count(left, 'backup code')} left. Generate new ones. They replace the old ones.`
}
