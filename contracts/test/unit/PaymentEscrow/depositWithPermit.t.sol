// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract PaymentEscrowDepositWithPermit is Network {
    function _permit(uint256 key, address holder, uint256 amount) private view returns (uint8 v, bytes32 r, bytes32 s) {
        bytes32 typehash = keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        bytes32 body = keccak256(abi.encode(typehash, holder, address(escrow), amount, token.nonces(holder), block.timestamp));
        return vm.sign(key, keccak256(abi.encodePacked(hex"1901", token.DOMAIN_SEPARATOR(), body)));
    }

    function test_depositWithPermit__in_one_call__also_when_front_run() public {
        (address holder, uint256 key) = makeAddrAndKey("holder");
        _fund(holder, 2 ether);
        (uint8 v, bytes32 r, bytes32 s) = _permit(key, holder, 1 ether);
        vm.prank(holder);
        escrow.depositWithPermit(1 ether, block.timestamp, v, r, s);
        (v, r, s) = _permit(key, holder, 1 ether);
        token.permit(holder, address(escrow), 1 ether, block.timestamp, v, r, s);
        vm.prank(holder);
        escrow.depositWithPermit(1 ether, block.timestamp, v, r, s);
        assertEq(escrow.depositOf(holder).balance, 2 ether);
    }

    function test_depositWithPermit__wrong_signature__reverts() public {
        _fund(payer, 1 ether);
        vm.prank(payer);
        vm.expectRevert();
        escrow.depositWithPermit(1 ether, block.timestamp, 27, "r", "s");
    }

    function test_onboard__deposit_and_limit_in_one_call() public {
        (address holder, uint256 key) = makeAddrAndKey("holder");
        _fund(holder, 10 ether);
        (uint8 v, bytes32 r, bytes32 s) = _permit(key, holder, 10 ether);
        uint64 expiry = uint64(block.timestamp + 1 days);
        IPaymentEscrow.Onboarding memory o =
            IPaymentEscrow.Onboarding(10 ether, gateway, 6 ether, 1 hours, expiry, new bytes32[](0), block.timestamp, v, r, s);
        vm.prank(holder);
        escrow.onboard(o);
        assertEq(escrow.depositOf(holder).balance, 4 ether);
        assertEq(escrow.limitOf(holder, gateway).reserved, 6 ether);
        _assertLedgers();
        // Nothing to deposit: a limit alone.
        (v, r, s) = _permit(key, holder, 0);
        o = IPaymentEscrow.Onboarding(0, gateway, 8 ether, 1 hours, expiry, new bytes32[](0), block.timestamp, v, r, s);
        vm.prank(holder);
        escrow.onboard(o);
        assertEq(escrow.limitOf(holder, gateway).reserved, 8 ether);
        _assertLedgers();
    }
}
