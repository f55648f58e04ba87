# writer, on this key alone. Azure has no condition on the encryption context.
az role definition create --role-definition @- <<'EOF'
{
  "Name": "Rowseal writer",
  "Description": "What a writer of Rowseal does with a key of Azure Key Vault.",
  "IsCustom": true,
  "Actions": [],
  "NotActions": [],
  "DataActions": [
    "Microsoft.KeyVault/vaults/keys/wrap/action"
  ],
  "NotDataActions": [],
  "AssignableScopes": [
    "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/clinic"
  ]
}
EOF
az role assignment create --role 'Rowseal writer' --assignee-object-id 99999999-2222-3333-4444-555555555555 --assignee-principal-type ServicePrincipal \
  --scope '/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/clinic/providers/Microsoft.KeyVault/vaults/clinic-rows/keys/rows'
