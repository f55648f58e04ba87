resource "aws_kms_key_policy" "rowseal" {
  key_id = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid    = "AccountMayManage"
      Effect = "Allow"
      Principal = {
        AWS = "arn:aws:iam::111122223333:root"
      }
      Action   = ["kms:CancelKeyDeletion", "kms:CreateAlias", "kms:DeleteAlias", "kms:DescribeKey", "kms:DisableKey", "kms:DisableKeyRotation", "kms:EnableKey", "kms:EnableKeyRotation", "kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListGrants", "kms:ListKeyPolicies", "kms:ListKeyRotations", "kms:ListResourceTags", "kms:PutKeyPolicy", "kms:RevokeGrant", "kms:RotateKeyOnDemand", "kms:ScheduleKeyDeletion", "kms:TagResource", "kms:UntagResource", "kms:UpdateAlias", "kms:UpdateKeyDescription"]
      Resource = "*"
      }, {
      Sid    = "Administrator"
      Effect = "Allow"
      Principal = {
        AWS = "arn:aws:iam::111122223333:role/keys"
      }
      Action   = ["kms:CancelKeyDeletion", "kms:CreateAlias", "kms:DeleteAlias", "kms:DescribeKey", "kms:DisableKey", "kms:DisableKeyRotation", "kms:EnableKey", "kms:EnableKeyRotation", "kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListGrants", "kms:ListKeyPolicies", "kms:ListKeyRotations", "kms:ListResourceTags", "kms:PutKeyPolicy", "kms:RevokeGrant", "kms:RotateKeyOnDemand", "kms:ScheduleKeyDeletion", "kms:TagResource", "kms:UntagResource", "kms:UpdateAlias", "kms:UpdateKeyDescription"]
      Resource = "*"
      }, {
      Sid    = "Writer"
      Effect = "Allow"
      Principal = {
        AWS = "arn:aws:iam::111122223333:role/intake"
      }
      Action   = "kms:Encrypt"
      Resource = "*"
      Condition = {
        "ForAllValues:StringEquals" = {
          "kms:EncryptionContextKeys" = ["environment", "model_id", "model_name"]
        }
        Null = {
          "kms:EncryptionContextKeys" = "false"
          "kms:ViaService"            = "true"
        }
        StringEquals = {
          "kms:EncryptionContext:environment" = "production"
          "kms:EncryptionContext:model_name"  = "Patient"
        }
      }
      }, {
      Sid    = "Reader"
      Effect = "Allow"
      Principal = {
        AWS = "arn:aws:iam::111122223333:role/reports"
      }
      Action   = "kms:Decrypt"
      Resource = "*"
      Condition = {
        "ForAllValues:StringEquals" = {
          "kms:EncryptionContextKeys" = ["environment", "model_id", "model_name"]
        }
        Null = {
          "kms:EncryptionContextKeys" = "false"
          "kms:ViaService"            = "true"
        }
        StringEquals = {
          "kms:EncryptionContext:environment" = "production"
          "kms:EncryptionContext:model_name"  = "Patient"
        }
      }
      }, {
      Sid    = "Application"
      Effect = "Allow"
      Principal = {
        AWS = ["arn:aws:iam::111122223333:role/clinic", "arn:aws:iam::111122223333:role/portal"]
      }
      Action   = ["kms:Encrypt", "kms:Decrypt"]
      Resource = "*"
      Condition = {
        "ForAllValues:StringEquals" = {
          "kms:EncryptionContextKeys" = ["environment", "model_id", "model_name"]
        }
        Null = {
          "kms:EncryptionContextKeys" = "false"
          "kms:ViaService"            = "true"
        }
        StringEquals = {
          "kms:EncryptionContext:environment" = "production"
          "kms:EncryptionContext:model_name"  = "Patient"
        }
      }
      }, {
      Sid    = "RotatorFrom"
      Effect = "Allow"
      Principal = {
        AWS = "arn:aws:iam::111122223333:role/rotator"
      }
      Action   = "kms:ReEncryptFrom"
      Resource = "*"
      Condition = {
        "ForAllValues:StringEquals" = {
          "kms:EncryptionContextKeys" = ["environment", "model_id", "model_name"]
        }
        Null = {
          "kms:EncryptionContextKeys" = "false"
          "kms:ViaService"            = "true"
        }
        StringEquals = {
          "kms:EncryptionContext:environment" = "production"
          "kms:EncryptionContext:model_name"  = "Patient"
        }
      }
      }, {
      Sid    = "RotatorTo"
      Effect = "Allow"
      Principal = {
        AWS = "arn:aws:iam::111122223333:role/rotator"
      }
      Action   = "kms:ReEncryptTo"
      Resource = "*"
      Condition = {
        "ForAllValues:StringEquals" = {
          "kms:EncryptionContextKeys" = ["environment", "model_id", "model_name"]
        }
        Null = {
          "kms:EncryptionContextKeys" = "false"
          "kms:ViaService"            = "true"
        }
        StringEquals = {
          "kms:EncryptionContext:environment" = "production"
          "kms:EncryptionContext:model_name"  = "Patient"
        }
      }
      }, {
      Sid    = "Check"
      Effect = "Allow"
      Principal = {
        AWS = ["arn:aws:iam::111122223333:role/intake", "arn:aws:iam::111122223333:role/reports", "arn:aws:iam::111122223333:role/clinic", "arn:aws:iam::111122223333:role/portal", "arn:aws:iam::111122223333:role/rotator"]
      }
      Action   = "kms:DescribeKey"
      Resource = "*"
      }, {
      Sid    = "NoUseWithoutContext"
      Effect = "Deny"
      Principal = {
        AWS = "*"
      }
      Action   = ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
      Resource = "*"
      Condition = {
        Null = {
          "kms:EncryptionContextKeys" = "true"
        }
      }
      }, {
      Sid    = "NoUseWithOtherNames"
      Effect = "Deny"
      Principal = {
        AWS = "*"
      }
      Action   = ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
      Resource = "*"
      Condition = {
        "ForAnyValue:StringNotEquals" = {
          "kms:EncryptionContextKeys" = ["environment", "model_id", "model_name"]
        }
      }
      }, {
      Sid    = "NoUseWithOtherEnvironment"
      Effect = "Deny"
      Principal = {
        AWS = "*"
      }
      Action   = ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
      Resource = "*"
      Condition = {
        StringNotEquals = {
          "kms:EncryptionContext:environment" = "production"
        }
      }
      }, {
      Sid    = "NoUseWithOtherModelName"
      Effect = "Deny"
      Principal = {
        AWS = "*"
      }
      Action   = ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
      Resource = "*"
      Condition = {
        StringNotEquals = {
          "kms:EncryptionContext:model_name" = "Patient"
        }
      }
      }, {
      Sid    = "NoUseThroughServices"
      Effect = "Deny"
      Principal = {
        AWS = "*"
      }
      Action   = ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
      Resource = "*"
      Condition = {
        Null = {
          "kms:ViaService" = "false"
        }
      }
      }, {
      Sid    = "BreakGlass"
      Effect = "Allow"
      Principal = {
        AWS = "arn:aws:iam::111122223333:role/break-glass"
      }
      Action   = ["kms:DisableKey", "kms:ScheduleKeyDeletion", "kms:CancelKeyDeletion", "kms:DescribeKey", "kms:EnableKey"]
      Resource = "*"
      }, {
      Sid    = "NoDeletion"
      Effect = "Deny"
      Principal = {
        AWS = "*"
      }
      Action   = ["kms:DisableKey", "kms:ScheduleKeyDeletion"]
      Resource = "*"
      Condition = {
        ArnNotEquals = {
          "aws:PrincipalArn" = "arn:aws:iam::111122223333:role/break-glass"
        }
      }
    }]
  })
}
