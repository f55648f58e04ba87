provider "aws" {
  alias  = "eu_central_1"
  region = "eu-central-1"
}

provider "aws" {
  alias  = "us_east_1"
  region = "us-east-1"
}

resource "aws_kms_key" "rowseal_clinic_production_medical_eu_central_1" {
  provider                = aws.eu_central_1
  description             = "Rowseal: clinic production medical"
  enable_key_rotation     = true
  rotation_period_in_days = 365
  deletion_window_in_days = 30
  tags = {
    "rowseal:alias"          = "alias/clinic/production/medical"
    "rowseal:application"    = "clinic"
    "rowseal:classification" = "medical"
    "rowseal:environment"    = "production"
  }
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid    = "AccountMayUse"
      Effect = "Allow"
      Principal = {
        AWS = "arn:aws:iam::111122223333:root"
      }
      Action   = "kms:*"
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
      Sid    = "NoDeletion"
      Effect = "Deny"
      Principal = {
        AWS = "*"
      }
      Action   = ["kms:DisableKey", "kms:ScheduleKeyDeletion"]
      Resource = "*"
    }]
  })
  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_kms_alias" "rowseal_clinic_production_medical_eu_central_1" {
  provider      = aws.eu_central_1
  name          = "alias/clinic/production/medical"
  target_key_id = aws_kms_key.rowseal_clinic_production_medical_eu_central_1.key_id
}

output "rowseal_clinic_production_medical_eu_central_1" {
  value = aws_kms_alias.rowseal_clinic_production_medical_eu_central_1.arn
}

resource "aws_kms_key" "rowseal_clinic_production_medical_us_east_1" {
  provider                = aws.us_east_1
  description             = "Rowseal: clinic production medical"
  enable_key_rotation     = true
  rotation_period_in_days = 365
  deletion_window_in_days = 30
  tags = {
    "rowseal:alias"          = "alias/clinic/production/medical"
    "rowseal:application"    = "clinic"
    "rowseal:classification" = "medical"
    "rowseal:environment"    = "production"
  }
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid    = "AccountMayUse"
      Effect = "Allow"
      Principal = {
        AWS = "arn:aws:iam::111122223333:root"
      }
      Action   = "kms:*"
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
      Sid    = "NoDeletion"
      Effect = "Deny"
      Principal = {
        AWS = "*"
      }
      Action   = ["kms:DisableKey", "kms:ScheduleKeyDeletion"]
      Resource = "*"
    }]
  })
  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_kms_alias" "rowseal_clinic_production_medical_us_east_1" {
  provider      = aws.us_east_1
  name          = "alias/clinic/production/medical"
  target_key_id = aws_kms_key.rowseal_clinic_production_medical_us_east_1.key_id
}

output "rowseal_clinic_production_medical_us_east_1" {
  value = aws_kms_alias.rowseal_clinic_production_medical_us_east_1.arn
}
