import type { Account } from '../app.ts'
import { withStepUp } from '../dialogs.ts'
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
    el('p', {}, 'Set up two-factor authentication to open the vault.'),
    errors.element,
    el('div', { class: 'actions' }, setUpButton('vault-setup', '', account, errors)),
  )
}

/** @param onStepUp - called when the person may have entered a code, after `account.me` was read again */
export function vaultCard(account: Account, onStepUp: () => void): HTMLElement {
  const { app, me } = account
  const errors = errorRegion()
  const inside = el('p', { class: 'vault', role: 'status', 'data-vault': true })
  const open = actionButton({
    action: 'open-vault',
    label: 'Open vault',
    busyLabel: null,
    errors,
    work: async () => {
      inside.textContent = ''
      const found = await withStepUp(app, 'Enter a code to open the vault.', app.api.vault)
      if (found === null) return
      inside.textContent = found.secret
      Object.assign(me, await app.api.me())
      onStepUp()
    },
  })
  return el(
    'section',
    { class: 'card' },
    el('h2', {}, 'Vault'),
    el('p', {}, 'To open the vault, you need to enter a code, unless you entered one recently.'),
    inside,
    errors.element,
    el('div', { class: 'actions' }, open),
  )
}
