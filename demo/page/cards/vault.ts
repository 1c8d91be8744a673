import type { Account } from '../app.ts'
import { withSignIn } from '../dialogs.ts'
import { el } from '../dom.ts'
import { actionButton, errorRegion } from '../form.ts'
import { setUpButton } from './second-factor.ts'

/** The vault of someone without a second factor. */
export function closedVaultCard(account: Account): HTMLElement {
  const errors = errorRegion()
  return el(
    'section',
    { class: 'card' },
    el('h2', {}, 'Vault'),
    el('p', {}, 'The vault needs two-factor authentication: set it up, and you can open it.'),
    errors.element,
    el('div', { class: 'actions' }, setUpButton('vault-setup', '', account, errors)),
  )
}

/** @param onSignIn - called when the person may have signed in again, after `account.me` was read anew */
export function vaultCard(account: Account, onSignIn: () => void): HTMLElement {
  const { app, me } = account
  const errors = errorRegion()
  const inside = el('p', { class: 'vault', role: 'status', 'data-vault': true })
  const open = actionButton({
    action: 'open-vault',
    label: 'Open the vault',
    busyLabel: 'Opening…',
    errors,
    work: async () => {
      inside.textContent = ''
      const reason = 'The vault opens only soon after a log-in with a code.'
      const found = await withSignIn(app, me.username, reason, app.api.vault)
      if (found === null) return
      inside.textContent = found.secret
      Object.assign(me, await app.api.me())
      onSignIn()
    },
  })
  return el(
    'section',
    { class: 'card' },
    el('h2', {}, 'Vault'),
    el('p', {}, 'It opens within five minutes of a log-in with a code. Later you sign in once more.'),
    inside,
    errors.element,
    el('div', { class: 'actions' }, open),
  )
}
