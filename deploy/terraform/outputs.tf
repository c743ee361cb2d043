output "stack" {
  description = "lambdamr.LambdaExecutor(stack)"
  value       = aws_cloudformation_stack.lambdamr.name
}

output "bucket" {
  value = aws_cloudformation_stack.lambdamr.outputs["BucketName"]
}

output "functions" {
  value = split(",", aws_cloudformation_stack.lambdamr.outputs["FunctionNames"])
}
