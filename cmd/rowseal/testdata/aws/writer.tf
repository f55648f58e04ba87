resource "aws_iam_policy" "rowseal_writer" {
  name = "rowseal-writer"
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid      = "Writer"
      Effect   = "Allow"
      Action   = "kms:Encrypt"
      Resource = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
      Condition = {
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
    }]
  })
}
