// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract SettlementReleaseChecks is Network {
    function test_releaseChecks__pays_a_verifier_at_once_and_splits_as_ever() public {
        _joinAll();
        address judge = judges[0];
        _redeemFor(judge, 10 ether);
        uint256 before = token.balanceOf(judge);
        assertEq(settlement.releaseChecks(judge, _models()), 8.7 ether);
        assertEq(token.balanceOf(judge) - before, 8.7 ether);
        assertEq(token.balanceOf(creator), 0.5 ether);
        assertEq(settlement.pot(verifiers.currentEpoch()), 0.5 ether);
        assertEq(settlement.heldOf(judge, modelId), 0);
        _assertLedgers();
        vm.expectRevert(ISettlement.NothingToRelease.selector);
        this.releaseChecks(judge);
    }

    function test_releaseChecks__of_a_provider__reverts() public {
        _joinAll();
        _redeem(5 ether);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.NotVerifier.selector, owner));
        this.releaseChecks(owner);
    }

    function test_releaseChecks__of_a_verifier_that_is_a_provider__reverts() public {
        _joinAll();
        address judge = judges[0];
        _redeemFor(judge, 5 ether);
        vm.prank(judge);
        providers.register(makeAddr("judge's operator"), "grpcs://127.0.0.1:1", bytes32(uint256(1)));
        vm.expectRevert(abi.encodeWithSelector(ISettlement.NotVerifier.selector, judge));
        this.releaseChecks(judge);
    }

    function test_releaseChecks__of_a_verifier_that_left__reverts() public {
        _joinAll();
        address judge = judges[0];
        _redeemFor(judge, 5 ether);
        vm.prank(judge);
        verifiers.exit();
        vm.expectRevert(abi.encodeWithSelector(ISettlement.NotVerifier.selector, judge));
        this.releaseChecks(judge);
    }

    function releaseChecks(address verifier) external {
        settlement.releaseChecks(verifier, _models());
    }

    function _redeemFor(address verifier, uint128 amount) private {
        (ISettlement.Voucher[] memory v, bytes[] memory s) = _voucher(amount);
        v[0].provider = verifier;
        s[0] = _sign(gatewayKey, settlement.hashVoucher(v[0]));
        assertEq(uint8(settlement.redeem(v, s)[0]), uint8(ISettlement.Result.Redeemed));
    }
}
