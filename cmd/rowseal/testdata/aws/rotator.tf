resource "aws_iam_policy" "rowseal_rotator" {
  name = "rowseal-rotator"
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid      = "RotatorFrom"
      Effect   = "Allow"
      Action   = "kms:ReEncryptFrom"
      Resource = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
      Condition = {
        Bool = {
          "kms:ReEncryptOnSameKey" = "true"
        }
        "ForAllValues:StringEquals" = {
          "kms:EncryptionContextKeys" = ["environment", "model_id", "model_name"]
        }
        Null = {
          "kms:EncryptionContextKeys" = "false"
        }
        StringEquals = {
          "kms:EncryptionContext:environment" = "production"
          "kms:EncryptionContext:model_name"  = ["Patient", "Visit"]
        }
      }
      }, {
      Sid      = "RotatorTo"
      Effect   = "Allow"
      Action   = "kms:ReEncryptTo"
      Resource = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
      Condition = {
        Bool = {
          "kms:ReEncryptOnSameKey" = "true"
        }
        "ForAllValues:StringEquals" = {
          "kms:EncryptionContextKeys" = ["environment", "model_id", "model_name"]
        }
        Null = {
          "kms:EncryptionContextKeys" = "false"
        }
        StringEquals = {
          "kms:EncryptionContext:environment" = "production"
          "kms:EncryptionContext:model_name"  = ["Patient", "Visit"]
        }
      }
      }, {
      Sid         = "NoOtherDestination"
      Effect      = "Deny"
      Action      = "kms:ReEncryptTo"
      NotResource = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    }]
  })
}
