resource "aws_iam_policy" "rowseal_administrator" {
  name = "rowseal-administrator"
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid      = "Manage"
      Effect   = "Allow"
      Action   = ["kms:CancelKeyDeletion", "kms:DescribeKey", "kms:DisableKey", "kms:DisableKeyRotation", "kms:EnableKey", "kms:EnableKeyRotation", "kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListGrants", "kms:ListKeyPolicies", "kms:ListKeyRotations", "kms:ListResourceTags", "kms:PutKeyPolicy", "kms:RevokeGrant", "kms:RotateKeyOnDemand", "kms:ScheduleKeyDeletion", "kms:TagResource", "kms:UntagResource", "kms:UpdateKeyDescription"]
      Resource = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
      }, {
      Sid      = "List"
      Effect   = "Allow"
      Action   = ["kms:ListAliases", "kms:ListKeys"]
      Resource = "*"
      }, {
      Sid      = "NoUse"
      Effect   = "Deny"
      Action   = ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*", "kms:CreateGrant"]
      Resource = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    }]
  })
}
