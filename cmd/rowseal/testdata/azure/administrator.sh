# administrator, on this key alone. Azure has no condition on the encryption context.
az role definition create --role-definition @- <<'EOF'
{
  "Name": "Rowseal administrator",
  "Description": "What a administrator of Rowseal does with a key of Azure Key Vault.",
  "IsCustom": true,
  "Actions": [],
  "NotActions": [],
  "DataActions": [
    "Microsoft.KeyVault/vaults/keys/create/action",
    "Microsoft.KeyVault/vaults/keys/delete",
    "Microsoft.KeyVault/vaults/keys/read",
    "Microsoft.KeyVault/vaults/keys/recover/action",
    "Microsoft.KeyVault/vaults/keys/rotate/action",
    "Microsoft.KeyVault/vaults/keys/update/action",
    "Microsoft.KeyVault/vaults/keyrotationpolicies/read",
    "Microsoft.KeyVault/vaults/keyrotationpolicies/write"
  ],
  "NotDataActions": [],
  "AssignableScopes": [
    "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/clinic"
  ]
}
EOF
az role assignment create --role 'Rowseal administrator' --assignee-object-id 99999999-2222-3333-4444-555555555555 --assignee-principal-type ServicePrincipal \
  --scope '/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/clinic/providers/Microsoft.KeyVault/vaults/clinic-rows/keys/rows'
