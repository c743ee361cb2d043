# A front door to lambdamr's CloudFormation template for teams that live in Terraform.
#
#   lambdamr package --requirements requirements.txt    # writes lambdamr.zip
#   terraform init && terraform apply
#   terraform destroy

terraform {
  required_version = ">= 1.4"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

data "aws_region" "here" {}

locals {
  code_key = "code/${filesha256(var.zip)}.zip"
  rungs    = concat(var.memory, [0, 0, 0, 0])
}

# The zip has to be somewhere before the stack is made.
resource "aws_s3_bucket" "code" {
  bucket_prefix = "${var.stack}-code-"
  force_destroy = true
}

resource "aws_s3_bucket_public_access_block" "code" {
  bucket                  = aws_s3_bucket.code.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_object" "code" {
  bucket = aws_s3_bucket.code.id
  key    = local.code_key
  source = var.zip
}

resource "aws_cloudformation_stack" "lambdamr" {
  name          = var.stack
  template_body = file(coalesce(var.template, "${path.module}/../../lambdamr/deploy/template.yaml"))
  capabilities  = ["CAPABILITY_IAM"]

  parameters = {
    Architecture     = var.architecture
    CodeBucket       = aws_s3_bucket.code.id
    CodeKey          = aws_s3_object.code.key
    EphemeralStorage = var.storage
    LambdamrVersion  = var.lambdamr_version
    Memory1          = local.rungs[0]
    Memory2          = local.rungs[1]
    Memory3          = local.rungs[2]
    Memory4          = local.rungs[3]
    Policies         = join(",", var.policies)
    PythonVersion    = var.python
    Secrets          = join(",", var.secrets)
    Timeout          = var.timeout
  }
}

# CloudFormation does not delete a bucket that holds objects, and jobs leave some.
resource "terraform_data" "empty" {
  input = {
    stack  = aws_cloudformation_stack.lambdamr.name
    region = data.aws_region.here.name
  }

  provisioner "local-exec" {
    when    = destroy
    command = "lambdamr clean --everything --yes --stack ${self.input.stack} --region ${self.input.region}"
  }
}
