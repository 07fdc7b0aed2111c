// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract StakingUndelegate is Network {
    function testFuzz_undelegate__part__leaves_the_rest(uint96 amount, uint128 part) public {
        amount = uint96(bound(amount, 1 ether, 1_000_000 ether));
        uint256 shares = _delegate(owner, amount);
        part = uint128(bound(part, 1e6 + 1, shares));
        vm.prank(delegator);
        uint256 out = staking.undelegate(owner, part);
        assertEq(staking.sharesOf(owner, delegator), shares - part);
        assertEq(staking.poolOf(owner).delegated + out, amount);
        assertApproxEqAbs(staking.slashable(owner), amount, 1);
        _assertLedgers();
    }

    function test_undelegate__others_shares__reverts() public {
        uint256 shares = _delegate(owner, 1 ether);
        vm.expectRevert(abi.encodeWithSelector(IStaking.InsufficientStake.selector, 0, shares));
        staking.undelegate(owner, uint128(shares));
        vm.prank(delegator);
        vm.expectRevert(abi.encodeWithSelector(IStaking.InsufficientStake.selector, shares, 0));
        staking.undelegate(owner, 0);
    }

    function test_undelegate__wiped_pool__keeps_the_shares() public {
        uint256 shares = _delegate(owner, 1 ether);
        vm.prank(address(disputes));
        staking.slash(owner, 1 ether, address(this), 0);
        vm.prank(delegator);
        vm.expectRevert(IStaking.ZeroAmount.selector);
        staking.undelegate(owner, uint128(shares));
    }
}
